"""The results of a run of the kit: drivers, the groups of each driver, and the tests of each group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

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
#: The group that gives figures and no verdict.
SPEED: Final = "speed"
#: The groups that a driver has to pass.
JUDGED: Final = tuple(name for name in GROUP_NAMES if name != SPEED)
#: The number of random sequences that the group "model" tries if none is chosen.
EXAMPLES: Final = 15
#: The least number of examples of a whole run, if one is chosen: the group "faults" lets about as many calls fail.
WHOLE: Final = 100

#: The outcomes of a test, the worst first.
OUTCOMES: Final = ("failed", "limited", "not tried", "passed")
_COLORS: Final = {"failed": "red", "incomplete": "yellow", "conforms": "brightgreen", "passed": "brightgreen"}


@dataclass(frozen=True, slots=True)
class TestResult:
    """The result of one test.

    Attributes:
        group: the test's group.
        name: the test's name, as pytest has it.
        demand: what the contract demands.
        loss: what a user would lose otherwise.
        outcome: `"passed"`, `"failed"`, `"limited"` (it failed, as the driver has declared) or `"not tried"`.
        seconds: the time that the test took.
        message: what happened: the smallest difference.
        reason: why the test is limited, or was not tried.
        where: where to look, the most likely place first.
        notes: further facts for the reader.
        could_declare: capabilities that the driver could declare, each with the reason after a colon.
        figures: the measured values.
        kept: the root of a failed test, which was kept. Empty if it was removed.
        removal: the command that removes what was kept.
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
    reason: str = ""
    where: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    could_declare: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    kept: str = ""
    removal: str = ""


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The results of a group.

    Attributes:
        group: the group's name.
        tests: the results of its tests that were run.
        known: the number of tests that the group has.
    """

    group: str
    tests: tuple[TestResult, ...]
    known: int

    def count(self, outcome: str) -> int:
        """Return the number of tests with an outcome."""
        return sum(test.outcome == outcome for test in self.tests)

    @property
    def whole(self) -> bool:
        """Whether all tests of the group were run and tried."""
        return len(self.tests) == self.known and not self.count("not tried")

    @property
    def verdict(self) -> str:
        """Return the verdict of the group.

        It is `"failed"` if a test failed, `"measured"` for the speed, `"not tried"` if nothing was tried,
        `"incomplete"` if tests were left out or not tried, `"limited"` if tests failed as declared, else `"passed"`.
        """
        if self.count("failed"):
            return "failed"
        if self.group == SPEED:
            return "measured"
        if not self.count("passed") + self.count("limited"):
            return "not tried"
        if not self.whole:
            return "incomplete"
        return "limited" if self.count("limited") else "passed"

    @property
    def badge(self) -> dict[str, Any]:
        """The verdict in the form that badge services read ("endpoint" schema, version 1)."""
        parts = [f"{self.count(outcome)} {outcome}" for outcome in OUTCOMES[:-1] if self.count(outcome)]
        left_out = self.known - len(self.tests)
        parts += [f"{left_out} left out"] if left_out > 0 else []
        message = self.verdict if self.verdict in ("passed", "measured") else ", ".join(parts) or self.verdict
        return _badge(f"conformance: {self.group}", message, self.verdict)


@dataclass(frozen=True, slots=True)
class DriverResult:
    """The results of one driver in one class of tests.

    Attributes:
        suite: the class of tests.
        driver: the driver's name.
        package: the name of the driver's distribution; empty if it is not known.
        version: the distribution's version.
        file_system: the type of the file system under test.
        selection: how the tests were chosen, if not all were run. Empty for all.
        known: the number of tests of all groups, without the speed.
        groups: the groups that were run.
    """

    suite: str
    driver: str
    package: str
    version: str
    file_system: str
    selection: str
    known: int
    groups: tuple[GroupResult, ...]

    @property
    def judged(self) -> list[GroupResult]:
        """The groups that a driver has to pass."""
        return [group for group in self.groups if group.group != SPEED]

    def count(self, outcome: str) -> int:
        """Return the number of tests with an outcome, without those of the speed."""
        return sum(group.count(outcome) for group in self.judged)

    @property
    def verdict(self) -> str:
        """Return the verdict.

        It is `"failed"` if a test failed, `"not tried"` if nothing was tried, `"conforms"` after a run of all tests,
        and `"incomplete"` otherwise.
        """
        if any(group.count("failed") for group in self.groups):
            return "failed"
        if not any(test.outcome in ("passed", "limited") for test in self.tests()):
            return "not tried"
        whole = len(self.judged) == len(JUDGED) and all(group.whole for group in self.judged)
        return "conforms" if whole and not self.selection else "incomplete"

    @property
    def summary(self) -> str:
        """The verdict as a part of a sentence."""
        limited = self.count("limited")
        limits = f" with {limited} declared {'limit' if limited == 1 else 'limits'}" if limited else ""
        if self.verdict == "conforms":
            return f"conforms{limits}"
        if self.verdict == "not tried":
            return "not tried"
        if self.verdict == "failed":
            failed = sum(group.count("failed") for group in self.groups)
            run = sum(len(group.tests) for group in self.groups)
            part = "" if len(self.judged) == len(JUDGED) else f" in {len(self.judged)} of {len(JUDGED)} groups"
            return f"does not conform: {failed} of {_tests(run)}{part} failed{limits and ','}{limits}"
        if not self.judged:
            return "measured, and not tested"
        return f"passed {self.scope}{limits}"

    @property
    def scope(self) -> str:
        """How much of the kit was run."""
        run = sum(len(group.tests) for group in self.judged)
        groups = f"{len(self.judged)} of {len(JUDGED)} groups"
        complete = all(len(group.tests) == group.known for group in self.judged)
        text = groups if complete else f"{run} of {_tests(self.known)}, in {groups}"
        not_tried = self.count("not tried")
        return f"{text}, {_tests(not_tried)} not tried" if not_tried else text

    @property
    def badge(self) -> dict[str, Any]:
        """The verdict in the form that badge services read ("endpoint" schema, version 1)."""
        return _badge("layerstore conformance", self.summary, self.verdict)

    def tests(self) -> list[TestResult]:
        """Return all tests, group by group."""
        return [test for group in self.groups for test in group.tests]


@dataclass(frozen=True, slots=True)
class Run:
    """The results of one run, and the means of it.

    Attributes:
        core: the version of core, which the kit is a part of.
        python: the version of Python.
        kernel: the kernel's name and release.
        user: with which rights the tests ran.
        seed: the seed of the random sequences. Empty if it was not chosen.
        examples: the number of random sequences.
        date: the day of the run (UTC), as in `2026-11-29`.
        drivers: the results by driver.
    """

    core: str
    python: str
    kernel: str
    user: str
    seed: str
    examples: int
    date: str
    drivers: tuple[DriverResult, ...]

    def means(self, driver: DriverResult) -> str:
        """Return what a driver's verdict depends on, as a sentence without a full stop."""
        seed = f"seed {self.seed}" if self.seed else "a random seed"
        sequences = "sequence" if self.examples == 1 else "sequences"
        return (
            f"layerstore-core {self.core}, Python {self.python}, {self.kernel}, as {self.user}, on "
            f"{driver.file_system or 'no file system'}, {self.examples} random {sequences}, {seed}, {self.date}"
        )

    def document(self) -> dict[str, Any]:
        """Return the run as a JSON document."""
        return {
            "layerstore_core": self.core,
            "python": self.python,
            "kernel": self.kernel,
            "user": self.user,
            "seed": self.seed,
            "examples": self.examples,
            "date": self.date,
            "drivers": [_driver_document(driver) for driver in self.drivers],
        }


def run_from(document: Mapping[str, Any]) -> Run:
    """Return a run from its `document`."""
    drivers = tuple(
        DriverResult(
            suite=one["suite"],
            driver=one["driver"],
            package=one["package"],
            version=one["version"],
            file_system=one["file_system"],
            selection=one["selection"],
            known=one["known"],
            groups=tuple(
                GroupResult(group["group"], tuple(map(_test_from, group["tests"])), group["known"])
                for group in one["groups"]
            ),
        )
        for one in document["drivers"]
    )
    means = {name: document[name] for name in ("python", "kernel", "user", "seed", "examples", "date")}
    return Run(core=document["layerstore_core"], **means, drivers=drivers)


def _test_from(document: Mapping[str, Any]) -> TestResult:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
    }
    return TestResult(**values)


def _driver_document(driver: DriverResult) -> dict[str, Any]:
    return {
        "suite": driver.suite,
        "driver": driver.driver,
        "package": driver.package,
        "version": driver.version,
        "file_system": driver.file_system,
        "selection": driver.selection,
        "known": driver.known,
        "verdict": driver.verdict,
        "summary": driver.summary,
        "badge": driver.badge,
        "groups": [
            {
                "group": group.group,
                "verdict": group.verdict,
                "known": group.known,
                "passed": group.count("passed"),
                "failed": group.count("failed"),
                "limited": group.count("limited"),
                "not_tried": group.count("not tried"),
                "badge": group.badge,
                "tests": [asdict(test) for test in group.tests],
            }
            for group in driver.groups
        ],
    }


def _badge(label: str, message: str, verdict: str) -> dict[str, Any]:
    color = _COLORS.get(verdict, "lightgrey")
    if ("limit" in message and color == "brightgreen") or verdict == "limited":
        color = "green"
    return {"schemaVersion": 1, "label": label, "message": message, "color": color}


def _tests(number: int) -> str:
    return f"{number} test" if number == 1 else f"{number} tests"
