"""Reports in every format, of a run with every kind of result."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from layerstore_core import ConfigError
from layerstore_core.conformance.outcomes.results import JUDGED, DriverResult, GroupResult, Run, TestResult, run_from
from layerstore_core.conformance.reports import write_report
from layerstore_core.conformance.reports.text import text_lines

FAILED = TestResult(
    "content",
    "test_files[attributes]",
    "Attributes stay.",
    "Otherwise ping fails.",
    "failed",
    0.5,
    "lost \x1b[31m user.k",
    where=("driver.py:7, in apply_diff",),
    kept="/tmp/kept",
    removal="rm -r /tmp/kept",
)
TESTS = [
    FAILED,
    replace(FAILED, name="test_more", kept=""),
    TestResult("content", "test_modes", "Modes stay.", "Otherwise.", "passed", 1.0, notes=("a hole is filled",)),
    TestResult("lifecycle", "test_remove", "It goes.", "Otherwise.", "passed", 0.25),
    TestResult("limits", "test_long_names", "Long.", "Otherwise.", "limited", 0.1, "OSError", "251 bytes at most"),
    TestResult("sizes", "test_size[a]", "It counts.", "Otherwise.", "not tried", 0.0, reason="needs root"),
    TestResult("sizes", "test_size[b]", "It counts.", "Otherwise.", "not tried", 0.0, reason="needs root"),
    TestResult("capabilities", "test_quota", "Q.", "Otherwise.", "passed", 0.1, could_declare=("quota: it holds",)),
    TestResult(
        "speed",
        "test_speed[100]",
        "Nothing.",
        "Figures.",
        "passed",
        2.0,
        figures={"100": {"apply": {"driver": 1.25, "vfs": 2.5, "overlay2": 0.5}}},
    ),
]


def run_of(tests: list[TestResult], *, left_out: int = 0, selection: str = "") -> Run:
    """Return a run of some tests; of each group, more tests may have been left out."""
    names = dict.fromkeys(test.group for test in tests)
    groups = []
    for name in names:
        own = tuple(test for test in tests if test.group == name)
        groups.append(GroupResult(name, own, len(own) + left_out))
    driver = DriverResult("test_x.py::TestX", "x", "layerstore-x", "1.2", "ext4", selection, 389, tuple(groups))
    return Run("0.1.0", "3.11.7", "Linux 6.1", "root", "7", 15, "2026-11-29", (driver,))


def whole(*changed: TestResult) -> list[TestResult]:
    """Return a passed test of each group, and others in their places."""
    passed = TestResult("", "test_it", "It works.", "Otherwise.", "passed", 0.1)
    return [*(replace(passed, group=name) for name in JUDGED if name not in {one.group for one in changed}), *changed]


LIMITED = TESTS[4]
NOT_TRIED = TESTS[5]


@pytest.fixture
def run() -> Run:
    return run_of(TESTS)


@pytest.mark.parametrize(
    ("run", "verdict", "summary", "color"),
    [
        (run_of(whole()), "conforms", "conforms", "brightgreen"),
        (run_of(whole(LIMITED)), "conforms", "conforms with 1 declared limit", "green"),
        (run_of(whole(NOT_TRIED)), "incomplete", "passed 13 of 13 groups, 1 test not tried", "yellow"),
        (run_of(whole()[:1]), "incomplete", "passed 1 of 13 groups", "yellow"),
        (run_of(whole()[:2], left_out=3), "incomplete", "passed 2 of 389 tests, in 2 of 13 groups", "yellow"),
        (run_of(whole(), selection="3 random sequences, of 15"), "incomplete", "passed 13 of 13 groups", "yellow"),
        (run_of(TESTS[8:]), "incomplete", "measured, and not tested", "yellow"),
        (run_of([NOT_TRIED]), "not tried", "not tried", "lightgrey"),
        (run_of(whole(FAILED)), "failed", "does not conform: 1 of 13 tests failed", "red"),
        (
            run_of([FAILED, LIMITED]),
            "failed",
            "does not conform: 1 of 2 tests in 2 of 13 groups failed, with 1 declared limit",
            "red",
        ),
    ],
    ids=lambda value: "",
)
def test_the_verdict_on_a_driver(run: Run, verdict: str, summary: str, color: str) -> None:
    (driver,) = run.drivers
    assert (driver.verdict, driver.summary, driver.badge["color"]) == (verdict, summary, color)
    assert driver.badge["message"] == summary


def test_the_verdicts_on_groups(run: Run) -> None:
    (driver,) = run.drivers
    assert {group.group: group.verdict for group in driver.groups} == {
        "content": "failed",
        "lifecycle": "passed",
        "limits": "limited",
        "sizes": "not tried",
        "capabilities": "passed",
        "speed": "measured",
    }
    assert driver.groups[0].badge == {
        "schemaVersion": 1,
        "label": "conformance: content",
        "message": "2 failed",
        "color": "red",
    }
    assert driver.groups[2].badge["message"] == "1 limited"
    (part,) = run_of(whole()[:1], left_out=2).drivers
    assert (part.groups[0].verdict, part.groups[0].badge["message"]) == ("incomplete", "2 left out")


def test_a_run_from_its_json_document(run: Run) -> None:
    assert run_from(json.loads(json.dumps(run.document()))) == run


def test_text_report(run: Run) -> None:
    text = "\n".join(text_lines(run))
    assert "layerstore-core 0.1.0, Python 3.11.7, Linux 6.1, as root, on ext4, 15 random sequences, seed 7" in text
    assert "content       failed         1 of 3      2.0 s  2 failed" in text
    assert "FAILED content: test_files[attributes]\n  the contract:   Attributes stay.\n  what is lost:   Other" in text
    assert "  where to look:\n    driver.py:7, in apply_diff\n" in text
    assert "kept:           /tmp/kept (driver.log has the driver's calls)" in text
    assert "the same in 1 more test: content: test_more" in text
    assert text.count("FAILED") == 1
    assert "declared limits\n  limits: test_long_names\n    251 bytes at most\n" in text
    assert "not tried\n  sizes: test_size[a], test_size[b]\n    needs root\n" in text
    assert "could be declared\n  quota: it holds\n" in text
    assert "notes\n  content: a hole is filled\n" in text
    assert "apply, 100 files\n    x                   1.2  ████████████\n" in text


def test_junit_report(run: Run, tmp_path) -> None:
    write_report(run, tmp_path / "report.xml")
    suites = {suite.get("name"): suite for suite in ET.parse(tmp_path / "report.xml").getroot()}
    assert suites["x.content"].attrib | {"time": ""} == {
        "name": "x.content",
        "tests": "3",
        "failures": "2",
        "skipped": "0",
        "time": "",
    }
    failure = suites["x.content"].find("testcase/failure")
    assert failure.get("message") == "Attributes stay." and "user.k" in failure.text
    assert "driver.py:7" in failure.text
    skipped = suites["x.limits"].find("testcase/skipped")
    assert skipped.attrib == {"type": "limited", "message": "limited: 251 bytes at most"}
    assert suites["x.limits"].get("skipped") == "1"
    assert suites["x.sizes"].find("testcase/skipped").attrib == {
        "type": "not tried",
        "message": "not tried: needs root",
    }
    properties = {one.get("name"): one.get("value") for one in suites["x.sizes"].iter("property")}
    assert properties["driver"].startswith("driver x (layerstore-x 1.2): does not conform")
    assert properties["group"] == "not tried; 2 not tried"


def test_markdown_report(run: Run, tmp_path) -> None:
    write_report(run, tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines[0].startswith("# Driver x (layerstore-x 1.2): does not conform: 2 of 9 tests")
    assert "| content | ❌ failed | 1 | 3 | 2 failed |" in lines
    assert "| limits | 🟡 limited | 0 | 1 | 1 limited |" in lines
    assert "- `limits: test_long_names`: 251 bytes at most" in lines
    assert "- `sizes: test_size[a], test_size[b]`: needs root" in lines
    assert "## Failed: `content: test_files[attributes]`" in lines
    assert "The same in 1 more test: content: test_more" in lines


class Page(HTMLParser):
    """A page with all of its tags and texts, which must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_report(tmp_path) -> None:
    hostile = replace(FAILED, group="content", name="test_<script>alert(1)</script>", message='</pre><img src="x">')
    write_report(run_of([*TESTS, hostile]), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "link", "iframe", "object"}
    assert not [name for _, attributes in page.tags for name in attributes if name in ("src", "href", "onload")]
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text
    said = " ".join(page.texts)
    assert "does not conform: 3 of 10 tests in 5 of 13 groups failed, with 1 declared limit" in said
    assert "251 bytes at most" in said and "needs root" in said and "quota: it holds" in said
    assert '</pre><img src="x">' in said and "\x1b" not in text
    widths = [float(attributes["width"] or 0) for tag, attributes in page.tags if tag == "rect"]
    assert widths == [190.0, 380.0, 76.0]
    assert {"x", "vfs", "overlay2", "1.2 ms", "2.5 ms", "0.5 ms"} <= set(page.texts)


def test_an_unknown_report_format_is_refused(run: Run, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"report\.doc"):
        write_report(run, tmp_path / "report.doc")
