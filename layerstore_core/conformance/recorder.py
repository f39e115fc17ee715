"""The results of the kit's tests, collected from pytest's reports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest

#: Names of pytest's user properties, by which a test process passes on what the report has to say.
ABOUT: Final = "conformance"
NOTE: Final = "conformance-note"
FIGURES: Final = "conformance-figures"
FILE_SYSTEM: Final = "conformance-file-system"

_NAME: Final = re.compile(r"^test_")


class Recorder:
    """The pytest plugin that collects results and writes the reports. Registered only if a report was asked for.

    Args:
        reports: the files to write at the end of the session.
        seed: the seed of the random sequences. Empty if it is random.
    """

    def __init__(self, reports: list[Path], seed: str) -> None:
        self._reports = reports
        self._seed = seed
        self._suites: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the result of one phase of one test."""
        properties = report.user_properties
        about: Any = next((value for name, value in properties if name == ABOUT), None)
        if about is None or (report.when != "call" and report.passed):
            return
        from layerstore_core.conformance.results import TestResult

        suite = self._suites.setdefault(about["suite"], {"driver": about["driver"], "file_system": "", "tests": []})
        suite["file_system"] = next((value for name, value in properties if name == FILE_SYSTEM), suite["file_system"])
        figures: Any = next((value for name, value in properties if name == FIGURES), {})
        result = TestResult(
            group=about["group"],
            name=about["name"] if report.when != "teardown" else f"{about['name']} (afterwards)",
            demand=about["demand"],
            loss=about["loss"],
            outcome=report.outcome,
            seconds=round(report.duration, 3),
            message=_message_of(report),
            notes=tuple(str(value) for name, value in properties if name == NOTE),
            figures=figures,
        )
        suite["tests"].append(result)

    def pytest_sessionfinish(self) -> None:
        """Write the reports."""
        from layerstore_core.conformance.report import write_report
        from layerstore_core.conformance.results import make_run

        run = make_run(self._suites, self._seed)
        for path in self._reports:
            write_report(run, path)


def describe(item: pytest.Item, group: str, driver: str) -> dict[str, str]:
    """Return what the report says about a test. The demand and the loss come from the test's docstring."""
    function: Any = getattr(item, "function", None)
    demand, _, loss = (function.__doc__ or "").strip().partition("\n\n")
    return {
        "suite": item.nodeid.rpartition("::")[0],
        "driver": driver,
        "group": group,
        "name": _NAME.sub("", item.name).replace("_", " ", item.name.partition("[")[0].count("_")),
        "demand": " ".join(demand.split()),
        "loss": " ".join(loss.split()),
    }


def _message_of(report: pytest.TestReport) -> str:
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    message = str(crash.message) if crash is not None else str(report.longrepr)
    where = f"\n({Path(crash.path).name}, line {crash.lineno})" if crash is not None else ""
    return message + where
