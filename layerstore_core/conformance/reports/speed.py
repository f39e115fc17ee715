"""The figures of the group "speed": a table, and the drivers that a driver is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from layerstore_core.conformance.outcomes.results import DriverResult

#: The width of the longest bar of a table, in characters.
_WIDTH = 24


@dataclass(frozen=True)
class Chart:
    """The time of one step for one number of files.

    Attributes:
        step: what was timed.
        files: the number of files.
        times: the name of each driver, the driver under test first, and its time in milliseconds.
    """

    step: str
    files: int
    times: tuple[tuple[str, float], ...]


def charts(driver: DriverResult) -> list[Chart]:
    """Return the figures of a driver, by steps, and for each step by the number of files."""
    found: list[Chart] = []
    for test in driver.tests():
        for files, steps in test.figures.items():
            for step, times in steps.items():
                found.append(Chart(step, int(files), _in_order(driver.driver, times)))
    order = list(dict.fromkeys(chart.step for chart in found))
    return sorted(found, key=lambda chart: (order.index(chart.step), chart.files))


def table(driver: DriverResult) -> list[str]:
    """Return the figures as lines with bars. In each step, the longest bar of a number of files is the slowest."""
    lines: list[str] = []
    for chart in charts(driver):
        lines.append(f"{chart.step}, {chart.files:,} files")
        slowest = max((time for _, time in chart.times), default=0) or 1
        for name, time in chart.times:
            bar = "█" * max(1, round(_WIDTH * time / slowest))
            lines.append(f"  {name:<12} {time:>10.1f}  {bar}")
    return lines


def _in_order(driver: str, times: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple((driver if name == "driver" else name, time) for name, time in times.items())
