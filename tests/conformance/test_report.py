"""Reports in every format, of a run with every kind of result."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from layerstore_core import ConfigError
from layerstore_core.conformance.report import text_lines, write_report
from layerstore_core.conformance.results import TestResult, make_run, run_from

FAILED = TestResult(
    "content", "files[attributes]", "Attributes stay.", "Otherwise ping fails.", "failed", 0.5, "lost \x1b[31m user.k"
)
SPEED = {"100": {"apply": {"driver": 1.25, "vfs": 2.5}, "diff": {"driver": 3.0}}}


@pytest.fixture
def run():
    tests = [
        FAILED,
        TestResult(
            "content", "modes", "Modes stay.", "Otherwise.", "passed", 1.0, notes=("devices: tried only by root",)
        ),
        TestResult("lifecycle", "remove", "It goes.", "Otherwise.", "passed", 0.25),
        TestResult("sizes", "size", "It counts.", "Otherwise.", "skipped", 0.0, "not here"),
        TestResult("speed", "speed[100]", "Nothing.", "Figures.", "passed", 2.0, figures=SPEED),
    ]
    return make_run({"test_x.py::TestX": {"driver": "x", "file_system": "ext4", "tests": tests}}, seed="7")


def test_verdicts_of_a_run(run) -> None:
    (driver,) = run.drivers
    assert {group.group: group.verdict for group in driver.groups} == {
        "lifecycle": "passed",
        "content": "failed",
        "sizes": "skipped",
        "speed": "measured",
    }
    assert driver.verdict == "failed"
    assert driver.groups[1].badge == {
        "schemaVersion": 1,
        "label": "conformance: content",
        "message": "failed, 1 of 2",
        "color": "red",
    }


def test_a_run_from_its_json_document(run) -> None:
    assert run_from(json.loads(json.dumps(run.document()))) == run


def test_text_report(run) -> None:
    text = "\n".join(text_lines(run))
    assert "content       failed        1 of 2      1.5 s" in text
    assert (
        "FAILED content: files[attributes]\n  the contract:   Attributes stay.\n  what is lost:   Otherwise ping"
        in text
    )
    assert "content: devices: tried only by root" in text
    assert "sizes: skipped: not here" in text
    assert "1.2 (2.5)" in text


def test_junit_report(run, tmp_path) -> None:
    write_report(run, tmp_path / "report.xml")
    suites = {suite.get("name"): suite for suite in ET.parse(tmp_path / "report.xml").getroot()}
    assert suites["x.content"].attrib | {"time": ""} == {
        "name": "x.content",
        "tests": "2",
        "failures": "1",
        "skipped": "0",
        "time": "",
    }
    failure = suites["x.content"].find("testcase/failure")
    assert failure.get("message") == "Attributes stay." and "user.k" in failure.text
    assert suites["x.sizes"].find("testcase/skipped").get("message") == "not here"


def test_markdown_report(run, tmp_path) -> None:
    write_report(run, tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines[0] == "# Conformance of driver x: failed"
    assert "| content | ❌ failed | 1 | 2 |" in lines
    assert "## content: `files[attributes]`" in lines


def test_an_unknown_report_format_is_refused(run, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"report\.doc"):
        write_report(run, tmp_path / "report.doc")
