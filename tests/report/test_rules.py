"""Rules: which texts are rules, and what becomes of them."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.base.units import parse_size
from layerstore_core.config.rules import COUNTS, NAMES, SIZES, Rule, check_table, merged_rules, parse_rule, rule_of
from layerstore_core.report.junit import junit
from layerstore_core.report.rules import RuleResult, evaluate

IMAGE = {
    "name": "app:1",
    "efficiency": 0.94996,
    "written": 1000,
    "visible": 950,
    "wasted": 70,
    "overwritten": 30,
    "deleted": 20,
    "duplicated": 20,
    "layer_count": 3,
    "entries": 17,
    "package_count": 2,
}
REPORT: dict[str, Any] = {"image": IMAGE, "before": {"visible": 900}}


def result(option: str, text: str) -> RuleResult:
    name, rule = parse_rule("max" if option == "max" else "fail_under", text)
    assert rule is not None
    assert rule.name == name
    (found,) = evaluate([rule], REPORT)
    return found


@pytest.mark.parametrize(
    ("option", "text", "passed", "line"),
    [
        ("fail_under", "efficiency=0.94996", True, "passed: efficiency is 0.9500, at least 0.9500 is allowed"),
        ("fail_under", "efficiency=95%", False, "failed: efficiency is 0.94996, at least 0.95 is allowed"),
        ("fail_under", "efficiency=1", False, "failed: efficiency is 0.9500, at least 1.0000 is allowed"),
        ("max", "wasted=70", True, "passed: wasted is 70 B, at most 70 B is allowed"),
        ("max", "wasted=69", False, "failed: wasted is 70 B, at most 69 B is allowed"),
        ("max", "wasted=7%", True, "passed: wasted is 70 B, at most 7% (70 B) is allowed"),
        ("max", "wasted=6.9%", False, "failed: wasted is 70 B, at most 6.9% (69 B) is allowed"),
        ("max", "overwritten=30B", True, "passed: overwritten is 30 B, at most 30 B is allowed"),
        ("max", "deleted=1k", True, "passed: deleted is 20 B, at most 1.0 KiB is allowed"),
        ("max", "duplicated=0", False, "failed: duplicated is 20 B, at most 0 B is allowed"),
        ("max", "size=1KB", True, "passed: size is 950 B, at most 1.0 KiB is allowed"),
        ("max", "written=999", False, "failed: written is 1000 B, at most 999 B is allowed"),
        ("max", "layers=3", True, "passed: layers is 3, at most 3 is allowed"),
        ("max", "files=16", False, "failed: files is 17, at most 16 is allowed"),
        ("fail_under", "packages=3", False, "failed: packages is 2, at least 3 is allowed"),
        ("max", "growth=50", True, "passed: growth is 50 B, at most 50 B is allowed"),
        ("max", "growth=5%", False, "failed: growth is 50 B, at most 5% (45 B) is allowed"),
    ],
)
def test_what_becomes_of_a_rule(option: str, text: str, passed: bool, line: str) -> None:
    found = result(option, text)
    assert (found.passed, found.line) == (passed, line)
    assert found.name == f"--{option.replace('_', '-')} {text}"


def test_an_image_that_shrinks_has_a_negative_growth() -> None:
    rule = rule_of("max", "growth", 0)
    assert rule is not None
    (found,) = evaluate([rule], {"image": IMAGE, "before": {"visible": 5000}})
    assert (found.passed, found.value, found.line) == (
        True,
        -4050,
        "passed: growth is -4.0 KiB, at most 0 B is allowed",
    )


def test_sizes_that_look_the_same_are_shown_in_bytes() -> None:
    rule = rule_of("max", "size", 10 << 20)
    assert rule is not None
    (found,) = evaluate([rule], {"image": {**IMAGE, "visible": (10 << 20) + 1}})
    assert found.line == "failed: size is 10485761 bytes, at most 10485760 bytes is allowed"


@pytest.mark.parametrize(
    "text",
    ["", "wasted", "wasted=", "=5", "waste=5", "wasted=5x", "wasted=-5", "wasted=5%%", "size=5%", "layers=1.5"]
    + ["layers=5%", "layers=-1", "layers=1k", "efficiency=1.01", "efficiency=-0.1", "efficiency=nan", "efficiency=x"]
    + ["efficiency=101%", "efficiency=1e-1", "growth=5 %%", "wasted=٣%", "layers=" + "9" * 19],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"=|number|size"):
        parse_rule("max", text)


def test_rules_that_are_given_count_instead_of_those_of_the_configuration() -> None:
    table = {"fail_under": {"efficiency": 0.9}, "max": {"wasted": "20M", "layers": 5, "growth": "5%"}}

    def texts(baseline: bool, **given: list[str]) -> list[str]:
        rules = merged_rules(table, given, baseline=baseline)  # type: ignore[arg-type]
        return [f"{one.kind} {one.name}={one.text}" for one in rules]

    assert texts(False) == ["fail_under efficiency=0.9", "max wasted=20M", "max layers=5"]
    assert texts(True)[-1] == "max growth=5%"
    assert texts(False, max=["wasted=30M", "layers=off", "files=9"]) == [
        "fail_under efficiency=0.9",
        "max wasted=30M",
        "max files=9",
    ]
    assert texts(False, max=["wasted=1", "wasted=2"])[1] == "max wasted=2"
    with pytest.raises(ValueError, match="--baseline"):
        texts(False, max=["growth=1"])
    assert "max growth=off" not in texts(True, max=["growth=off"])


@pytest.mark.parametrize("table", [{"min": {}}, {"max": {"waste": 1}}, {"fail_under": {"efficiency": 95}}])
def test_a_wrong_table_is_refused(table: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"there is no|from 0 to 1"):
        check_table(table)


@given(name=st.sampled_from(NAMES), value=st.integers(0, 10**12), limit=st.integers(0, 10**12))
def test_a_limit_is_compared_exactly(name: str, value: int, limit: int) -> None:
    if name in SIZES or name in COUNTS:
        field = {"size": "visible", "layers": "layer_count", "files": "entries", "packages": "package_count"}
        report = {"image": {**IMAGE, field.get(name, name): value}, "before": {"visible": 0}}
        if name == "growth":
            report["image"]["visible"] = value
        for kind, passed in (("max", value <= limit), ("fail_under", value >= limit)):
            rule = rule_of(kind, name, limit)  # type: ignore[arg-type]
            assert rule is not None
            (found,) = evaluate([rule], report)
            assert found.passed is passed
            assert (found.value, found.limit) == (value, limit)
    else:
        share = limit / 10**12
        (found,) = evaluate([Rule("fail_under", name, share, False, str(share))], {"image": {**IMAGE, name: share}})
        assert found.passed


@given(number=st.integers(0, 999), unit=st.sampled_from(["", "k", "MB", "GiB", " m"]))
def test_units_are_those_of_other_options(number: int, unit: str) -> None:
    _, rule = parse_rule("max", f"size={number}{unit}")
    assert rule is not None
    assert rule.limit == parse_size(f"{number}{unit}")


@given(text=st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(NAMES), st.text(max_size=8)))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        name, rule = parse_rule("max", text)
    except ValueError:
        return
    assert name in NAMES
    assert rule is None or rule.limit >= 0


@given(name=st.text(max_size=20, alphabet=st.characters()), text=st.text(max_size=9))
def test_any_name_makes_a_valid_document(name: str, text: str) -> None:
    rules = [Rule("max", "layers", 3, False, text), Rule("max", "files", 3, False, text)]
    suites = ElementTree.fromstring(junit(name, evaluate(rules, REPORT)))
    (suite,) = suites
    assert (suites.tag, suite.tag, suite.attrib["tests"], suite.attrib["failures"]) == (
        "testsuites",
        "testsuite",
        "2",
        "1",
    )
    passed, failed = suite
    assert passed.attrib["classname"] == "layerstore.report.layers"
    assert list(passed) == []
    assert failed[0].attrib["message"].startswith("failed: files is 17")
