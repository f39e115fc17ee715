"""The report for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from layerstore_core.conformance.outcomes.results import DriverResult, Run
from layerstore_core.conformance.reports import facts, speed


def document(run: Run) -> str:
    """Return the report as text."""
    return "\n".join(text_lines(run)) + "\n"


def text_lines(run: Run) -> Iterator[str]:
    """Yield the lines of the report."""
    for driver in run.drivers:
        yield f"{facts.title(driver)}: {driver.summary}"
        yield run.means(driver)
        if driver.selection:
            yield f"chosen: {driver.selection}"
        yield ""
        for group in driver.groups:
            passed = f"{group.count('passed')} of {group.known}"
            seconds = sum(test.seconds for test in group.tests)
            rest = facts.counts(group)
            line = f"  {group.group:<13} {group.verdict:<10} {passed:>10} {seconds:8.1f} s  {rest}"
            yield line.rstrip()
        yield from _section("speed, in milliseconds", speed.table(driver))
        yield from _sections(driver)
        for failure in facts.failures(driver):
            test = failure.test
            yield ""
            yield f"FAILED {test.group}: {test.name}"
            yield f"  the contract:   {test.demand}"
            yield f"  what is lost:   {test.loss}"
            yield "  what happened:"
            yield from (f"    {line}" for line in test.message.splitlines())
            yield "  where to look:"
            yield from (f"    {place}" for place in test.where)
            for one in (test, *failure.others):
                if one.kept:
                    yield f"  kept:           {one.kept} (driver.log has the driver's calls)"
                    yield f"                  to remove it: {one.removal}"
            if failure.same:
                yield f"  {failure.same}"
        yield ""


def _sections(driver: DriverResult) -> Iterator[str]:
    for name, found in (("declared limits", facts.limits(driver)), ("not tried", facts.not_tried(driver))):
        yield from _section(name, [line for tests, reason in found for line in (tests, f"  {reason}")])
    yield from _section("could be declared", facts.could_declare(driver))
    yield from _section("notes", [f"{group}: {note}" for group, note in facts.notes(driver)])


def _section(name: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield name
        yield from (f"  {line}".rstrip() for line in lines)
