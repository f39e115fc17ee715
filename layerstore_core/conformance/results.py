"""The results of a run of the kit: drivers, the groups of each driver, and the tests of each group."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from layerstore_core._version import __version__
from layerstore_core.driver import registry

#: The groups, in the order in which a driver's author should repair failures.
GROUP_NAMES: Final = (
    "lifecycle",
    "content",
    "snapshots",
    "diffs",
    "sizes",
    "streams",
    "restart",
    "mounts",
    "concurrency",
    "faults",
    "limits",
    "capabilities",
    "model",
    "speed",
)


@dataclass(frozen=True, slots=True)
class TestResult:
    """The result of one test.

    Attributes:
        group: the test's group.
        name: the test's name, as pytest has it.
        demand: what the contract demands.
        loss: what a user would lose otherwise.
        outcome: `"passed"`, `"failed"` or `"skipped"`.
        seconds: the time that the test took.
        message: why the test failed or was skipped.
        notes: further facts for the reader.
        figures: the measured values.
    """

    #: Tells pytest that this is no class of tests.
    __test__ = False

    group: str
    name: str
    demand: str
    loss: str
    outcome: str
    seconds: float
    message: str = ""
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The results of one group of tests."""

    group: str
    tests: tuple[TestResult, ...]

    def count(self, outcome: str) -> int:
        """Return the number of tests with an outcome."""
        return sum(test.outcome == outcome for test in self.tests)

    @property
    def verdict(self) -> str:
        """`"failed"` if a test failed, `"measured"` for the speed, `"skipped"` if no test passed, else `"passed"`."""
        if self.count("failed"):
            return "failed"
        if self.group == "speed":
            return "measured"
        return "passed" if self.count("passed") else "skipped"

    @property
    def badge(self) -> dict[str, Any]:
        """The verdict in the form that badge services read ("endpoint" schema, version 1)."""
        color = {"passed": "brightgreen", "failed": "red"}.get(self.verdict, "lightgrey")
        counts = f"{self.count('passed')} of {len(self.tests)}"
        return {
            "schemaVersion": 1,
            "label": f"conformance: {self.group}",
            "message": f"{self.verdict}, {counts}" if self.verdict == "failed" else self.verdict,
            "color": color,
        }


@dataclass(frozen=True, slots=True)
class DriverResult:
    """The results of one driver in one class of tests."""

    suite: str
    driver: str
    package: str
    version: str
    file_system: str
    groups: tuple[GroupResult, ...]

    @property
    def verdict(self) -> str:
        """`"failed"`, `"passed"`, or `"skipped"` if every test was skipped."""
        verdicts = {group.verdict for group in self.groups}
        if "failed" in verdicts:
            return "failed"
        return "passed" if verdicts & {"passed", "measured"} else "skipped"

    def tests(self) -> list[TestResult]:
        """Return all tests, group by group."""
        return [test for group in self.groups for test in group.tests]


@dataclass(frozen=True, slots=True)
class Run:
    """The results of one run."""

    core: str
    python: str
    system: str
    seed: str
    drivers: tuple[DriverResult, ...]

    def document(self) -> dict[str, Any]:
        """Return the run as a JSON document."""
        return {
            "layerstore_core": self.core,
            "python": self.python,
            "system": self.system,
            "seed": self.seed,
            "drivers": [_driver_document(driver) for driver in self.drivers],
        }


def make_run(found: Mapping[str, Mapping[str, Any]], seed: str) -> Run:
    """Return a run.

    Args:
        found: for each class of tests `driver`, `file_system`, and `tests`, a list of `TestResult`.
        seed: the seed of the random sequences. Empty if it was random.
    """
    drivers = []
    for suite, one in found.items():
        package, version = _package_of(one["driver"])
        groups = tuple(
            GroupResult(name, tuple(test for test in one["tests"] if test.group == name))
            for name in GROUP_NAMES
            if any(test.group == name for test in one["tests"])
        )
        drivers.append(DriverResult(suite, one["driver"], package, version, one["file_system"], groups))
    return Run(
        core=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}, {'root' if os.geteuid() == 0 else 'an ordinary user'}",
        seed=seed,
        drivers=tuple(drivers),
    )


def run_from(document: Mapping[str, Any]) -> Run:
    """Return a run from its `document`."""
    drivers = tuple(
        DriverResult(
            suite=one["suite"],
            driver=one["driver"],
            package=one["package"],
            version=one["version"],
            file_system=one["file_system"],
            groups=tuple(
                GroupResult(
                    group["group"],
                    tuple(TestResult(**{**test, "notes": tuple(test["notes"])}) for test in group["tests"]),
                )
                for group in one["groups"]
            ),
        )
        for one in document["drivers"]
    )
    return Run(document["layerstore_core"], document["python"], document["system"], document["seed"], drivers)


def _driver_document(driver: DriverResult) -> dict[str, Any]:
    return {
        "suite": driver.suite,
        "driver": driver.driver,
        "package": driver.package,
        "version": driver.version,
        "file_system": driver.file_system,
        "verdict": driver.verdict,
        "groups": [
            {
                "group": group.group,
                "verdict": group.verdict,
                "passed": group.count("passed"),
                "failed": group.count("failed"),
                "skipped": group.count("skipped"),
                "badge": group.badge,
                "tests": [asdict(test) for test in group.tests],
            }
            for group in driver.groups
        ],
    }


def _package_of(name: str) -> tuple[str, str]:
    for driver in registry.installed_drivers():
        if driver.name == name:
            return driver.distribution, driver.version
    return "", ""
