"""What all reports say of a driver's run: lists of facts, each of them once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from layerstore_core.conformance.outcomes.results import DriverResult, GroupResult, TestResult

#: No more names of tests with the same failure than these.
_NAMES = 6


@dataclass(frozen=True)
class Failed:
    """One failure: the first test that showed it, and the others."""

    test: TestResult
    others: tuple[TestResult, ...]

    @property
    def same(self) -> str:
        """A sentence about the other tests. Empty if there are none."""
        if not self.others:
            return ""
        names = [f"{test.group}: {test.name}" for test in self.others[:_NAMES]]
        rest = len(self.others) - len(names)
        more = f", and {rest} more" if rest else ""
        return f"the same in {len(self.others)} more {_tests(len(self.others))}: {', '.join(names)}{more}"


def title(driver: DriverResult) -> str:
    """Return a driver's name with its package and version."""
    package = f" ({driver.package} {driver.version})" if driver.package else ""
    return f"driver {driver.driver}{package}"


def counts(group: GroupResult) -> str:
    """Return how many tests of a group did not pass, and why. Empty if all did."""
    numbers = {one: group.count(one) for one in ("failed", "limited", "not tried")}
    numbers["left out"] = group.known - len(group.tests)
    return ", ".join(f"{number} {what}" for what, number in numbers.items() if number > 0)


def failures(driver: DriverResult) -> list[Failed]:
    """Return the failures, those with the same message together."""
    found: dict[str, list[TestResult]] = {}
    for test in driver.tests():
        if test.outcome == "failed":
            found.setdefault(test.message, []).append(test)
    return [Failed(tests[0], tuple(tests[1:])) for tests in found.values()]


def limits(driver: DriverResult) -> list[tuple[str, str]]:
    """Return the declared limits: the tests, and the reason."""
    return _by_reason(test for test in driver.tests() if test.outcome == "limited")


def not_tried(driver: DriverResult) -> list[tuple[str, str]]:
    """Return what was not tried: the tests, and the reason."""
    return _by_reason(test for test in driver.tests() if test.outcome == "not tried")


def could_declare(driver: DriverResult) -> list[str]:
    """Return the capabilities that the driver has shown, and does not declare."""
    return list(dict.fromkeys(one for test in driver.tests() for one in test.could_declare))


def notes(driver: DriverResult) -> list[tuple[str, str]]:
    """Return the notes, each with its group."""
    return list(dict.fromkeys((test.group, note) for test in driver.tests() for note in test.notes))


def _by_reason(tests: Iterable[TestResult]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for test in tests:
        found.setdefault((test.group, test.reason), []).append(test.name)
    lines = []
    for (group, reason), names in found.items():
        rest = len(names) - _NAMES
        more = f", and {rest} more" if rest > 0 else ""
        lines.append((f"{group}: {', '.join(names[:_NAMES])}{more}", reason))
    return lines


def _tests(number: int) -> str:
    return "test" if number == 1 else "tests"
