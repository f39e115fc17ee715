"""The results of the kit's tests, collected from pytest's reports."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from layerstore_core.conformance.outcomes import results
from layerstore_core.conformance.outcomes.results import DriverResult, GroupResult, Run, TestResult
from layerstore_core.conformance.properties import (
    ABOUT,
    COULD_DECLARE,
    FAILURE,
    FIGURES,
    FILE_SYSTEM,
    KEPT,
    LIMIT,
    NOTE,
)


@dataclass
class _Suite:
    """What is known of one class of tests."""

    driver: str
    known: Mapping[str, int]
    selection: str
    file_system: str = ""
    tests: dict[str, TestResult] = field(default_factory=dict)


class Recorder:
    """The pytest plugin that collects results and writes the reports. Registered only if a report was asked for.

    Args:
        reports: the files to write at the end of the session.
        seed: the seed of the random sequences. Empty if it is random.
        examples: the number of random sequences.
    """

    def __init__(self, reports: list[Path], seed: str, examples: int) -> None:
        self._reports = reports
        self._seed = seed
        self._examples = examples
        self._suites: dict[str, _Suite] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the result of one phase of one test. What fails after a test has failed is no second failure."""
        properties: dict[str, Any] = dict(report.user_properties)
        about = properties.get(ABOUT)
        if about is None:
            return
        suite = self._suites.setdefault(about["suite"], _Suite(about["driver"], about["known"], about["selection"]))
        before = suite.tests.get(about["name"])
        if report.when != "call" and report.passed:
            if before is not None:  # the teardown adds notes
                kept, removal = properties.get(KEPT, ("", ""))
                suite.tests[about["name"]] = replace(before, notes=_all(report, NOTE), kept=kept, removal=removal)
            return
        if before is not None and before.outcome in ("failed", "limited"):
            return
        suite.file_system = properties.get(FILE_SYSTEM, suite.file_system)
        suite.tests[about["name"]] = _result(report, about, properties)

    def pytest_sessionfinish(self) -> None:
        """Write the reports."""
        from layerstore_core.conformance.reports import write_report

        run = self.run()
        for path in self._reports:
            write_report(run, path)

    def run(self) -> Run:
        """Return the results so far."""
        from layerstore_core._version import __version__

        return Run(
            core=__version__,
            python=platform.python_version(),
            kernel=f"{platform.system()} {platform.release()}",
            user=_user(),
            seed=self._seed,
            examples=self._examples,
            date=datetime.now(UTC).date().isoformat(),
            drivers=tuple(_driver_result(name, suite) for name, suite in self._suites.items()),
        )


def describe(item: pytest.Item, group: str, driver: str) -> dict[str, Any]:
    """Return what the report says about a test. The demand and the loss come from the test's docstring."""
    function: Any = getattr(item, "function", None)
    demand, _, loss = (function.__doc__ or "").strip().partition("\n\n")
    return {
        "suite": item.parent.nodeid if item.parent is not None else "",
        "driver": driver,
        "group": group,
        "name": item.name,
        "demand": " ".join(demand.split()),
        "loss": " ".join(loss.split()),
    }


def _result(report: pytest.TestReport, about: Mapping[str, Any], properties: Mapping[str, Any]) -> TestResult:
    failure: Mapping[str, Any] = properties.get(FAILURE, {})
    limit: str = properties.get(LIMIT, "")
    if report.failed:
        outcome, reason = "failed", ""
    elif hasattr(report, "wasxfail"):
        outcome, reason = ("limited", limit) if limit else ("not tried", str(report.wasxfail))
    elif report.skipped:
        outcome = "not tried"
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    else:
        outcome, reason = "passed", ""
    return TestResult(
        group=about["group"],
        name=about["name"],
        demand=about["demand"],
        loss=about["loss"],
        outcome=outcome,
        seconds=round(report.duration, 3),
        message=failure.get("message", str(report.longrepr) if report.failed else ""),
        reason=reason.removeprefix("Skipped: "),
        where=tuple(failure.get("where", ())),
        notes=_all(report, NOTE),
        could_declare=_all(report, COULD_DECLARE),
        figures=properties.get(FIGURES, {}),
    )


def _all(report: pytest.TestReport, name: str) -> tuple[str, ...]:
    return tuple(str(value) for key, value in report.user_properties if key == name)


def _driver_result(name: str, suite: _Suite) -> DriverResult:
    package, version = _package_of(suite.driver)
    known = sum(number for group, number in suite.known.items() if group != results.SPEED)
    groups = tuple(
        GroupResult(group, tests, suite.known.get(group, len(tests)))
        for group in results.GROUP_NAMES
        if (tests := tuple(test for test in suite.tests.values() if test.group == group))
    )
    return DriverResult(name, suite.driver, package, version, suite.file_system, suite.selection, known, groups)


def _package_of(name: str) -> tuple[str, str]:
    from layerstore_core.driver import registry

    for driver in registry.installed_drivers():
        if driver.name == name:
            return driver.distribution, driver.version
    return "", ""


def _user() -> str:
    from layerstore_core.rootless.rights import acts_for_root

    if os.geteuid():
        return "an ordinary user"
    return "root" if acts_for_root() else "root of a user namespace"
