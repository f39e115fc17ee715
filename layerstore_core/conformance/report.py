"""The reports of a run: text for a person, JUnit XML for a build server, Markdown for a page, and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from layerstore_core.conformance.results import DriverResult, GroupResult, Run, TestResult
from layerstore_core.errors import ConfigError

_MESSAGE_LINES = 25
_MARKS = {"passed": "✅ passed", "failed": "❌ failed", "skipped": "⚪ not tried", "measured": "⏱ measured"}


def write_report(run: Run, path: Path) -> None:
    """Write a report in the format of the file name's suffix.

    Raises:
        ConfigError: the suffix is none of `.json`, `.xml`, `.md` and `.txt`.
        OSError: the file cannot be written.
    """
    check_report_name(path)
    path.write_text(_FORMATS[path.suffix](run), encoding="utf-8", errors="backslashreplace")


def check_report_name(path: Path) -> None:
    """Check that a report has a known format. To be called before the run, whose report would otherwise be lost.

    Raises:
        ConfigError: the name has no known suffix.
    """
    if path.suffix not in _FORMATS:
        raise ConfigError(
            f"the report {str(path)!r} has no known format: let its name end with .json, .xml (JUnit), .md or .txt"
        )


def text_lines(run: Run) -> Iterator[str]:
    """Yield the lines of the report for a terminal."""
    for driver in run.drivers:
        yield f"{_title(driver)}: {driver.verdict}"
        file_system = driver.file_system or "no file system"
        yield f"layerstore-core {run.core}, Python {run.python}, {run.system}, on {file_system}"
        yield ""
        for group in driver.groups:
            counts = f"{group.count('passed')} of {len(group.tests)}"
            seconds = sum(test.seconds for test in group.tests)
            yield f"  {group.group:<13} {group.verdict:<9} {counts:>10} {seconds:8.1f} s"
        yield from _speed_lines(driver)
        yield from _note_lines(driver)
        for test in driver.tests():
            if test.outcome == "failed":
                yield ""
                yield f"FAILED {test.group}: {test.name}"
                yield f"  the contract:   {test.demand}"
                yield f"  what is lost:   {test.loss}"
                yield "  what happened:"
                yield from (f"    {line}" for line in _shortened(test.message))
        yield ""


def _title(driver: DriverResult) -> str:
    package = f" ({driver.package} {driver.version})" if driver.package else ""
    return f"driver {driver.driver}{package}"


def _note_lines(driver: DriverResult) -> Iterator[str]:
    notes = dict.fromkeys((test.group, note) for test in driver.tests() for note in test.notes)
    notes.update(
        dict.fromkeys((test.group, f"skipped: {test.message}") for test in driver.tests() if test.outcome == "skipped")
    )
    if notes:
        yield ""
        yield "notes"
        for group, note in notes:
            yield f"  {group}: {note}"


def _speed_lines(driver: DriverResult) -> Iterator[str]:
    """Yield a table of the speed: milliseconds for each number of files, with those of vfs."""
    rows = [(files, figures) for test in driver.tests() for files, figures in test.figures.items()]
    if not rows:
        return
    yield ""
    yield "speed, in milliseconds (in brackets: vfs on the same file system)"
    steps = list(rows[0][1])
    yield "  " + "files".rjust(7) + "".join(step.rjust(18) for step in steps)
    for files, figures in rows:
        cells = "".join(_cell(figures[step]).rjust(18) for step in steps)
        yield "  " + files.rjust(7) + cells


def _cell(figures: dict[str, float]) -> str:
    vfs = f" ({figures['vfs']:.1f})" if "vfs" in figures else ""
    return f"{figures['driver']:.1f}{vfs}"


def _shortened(message: str) -> list[str]:
    lines = message.splitlines()
    return [*lines[:_MESSAGE_LINES], "…"] if len(lines) > _MESSAGE_LINES else lines


def _json(run: Run) -> str:
    return json.dumps(run.document(), indent=2) + "\n"


def _junit(run: Run) -> str:
    suites = ET.Element("testsuites")
    for driver in run.drivers:
        for group in driver.groups:
            _junit_suite(suites, driver, group)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _junit_suite(suites: ET.Element, driver: DriverResult, group: GroupResult) -> None:
    suite = ET.SubElement(
        suites,
        "testsuite",
        name=f"{driver.driver}.{group.group}",
        tests=str(len(group.tests)),
        failures=str(group.count("failed")),
        skipped=str(group.count("skipped")),
        time=f"{sum(test.seconds for test in group.tests):.3f}",
    )
    for test in group.tests:
        case = ET.SubElement(
            suite, "testcase", classname=f"{driver.driver}.{group.group}", name=test.name, time=f"{test.seconds:.3f}"
        )
        if test.outcome == "failed":
            failure = ET.SubElement(case, "failure", message=_printable(test.demand))
            failure.text = _printable(f"{test.demand}\n{test.loss}\n\n{test.message}")
        elif test.outcome == "skipped":
            ET.SubElement(case, "skipped", message=_printable(test.message))
        if test.notes:
            ET.SubElement(case, "system-out").text = _printable("\n".join(test.notes))


def _printable(text: str) -> str:
    """Return text without the characters that XML does not allow."""
    return "".join(c if c in "\n\t" or (c >= " " and not "\ud800" <= c <= "\udfff") else "\ufffd" for c in text)


def _markdown(run: Run) -> str:
    lines = []
    for driver in run.drivers:
        lines += [
            f"# Conformance of {_title(driver)}: {driver.verdict}",
            "",
            f"layerstore-core {run.core}, Python {run.python}, {run.system}, on {driver.file_system}.",
            "",
            "| group | verdict | passed | of |",
            "| --- | --- | ---: | ---: |",
        ]
        for group in driver.groups:
            lines.append(f"| {group.group} | {_MARKS[group.verdict]} | {group.count('passed')} | {len(group.tests)} |")
        speed = list(_speed_lines(driver))
        if speed:
            lines += ["", "```text", *speed[1:], "```"]
        notes = [line.strip() for line in _note_lines(driver) if line.startswith("  ")]
        if notes:
            lines += ["", "Notes:", "", *(f"- {note}" for note in notes)]
        for test in driver.tests():
            if test.outcome == "failed":
                lines += ["", *_markdown_failure(test)]
        lines.append("")
    return "\n".join(lines)


def _markdown_failure(test: TestResult) -> list[str]:
    return [
        f"## {test.group}: `{test.name}`",
        "",
        f"The contract demands: {test.demand}",
        "",
        f"{test.loss}",
        "",
        "```text",
        *_shortened(test.message),
        "```",
    ]


def _text(run: Run) -> str:
    return "\n".join(text_lines(run)) + "\n"


#: The function for each format, by the suffix of the file's name.
_FORMATS: Final[dict[str, Callable[[Run], str]]] = {".json": _json, ".xml": _junit, ".md": _markdown, ".txt": _text}
