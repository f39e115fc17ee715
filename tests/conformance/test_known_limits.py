"""Limits that a driver declares: tests that it fails for a reason, in its package or in its class of tests."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import pytest

from layerstore_core import ConfigError
from layerstore_core.conformance.outcomes.known_limits import check_names, declared_limits
from layerstore_core.driver.registry import load_known_limits
from tests.conformance.conftest import Author, flat

LONG_NAMES = '{"limits: test_long_names": "names of more than 200 bytes"}'
SUITE = """
    from layerstore_core.conformance import DriverConformance

    class TestFussy(DriverConformance):
        driver = "fussy"
"""


def test_a_limit_in_the_metadata_of_the_package(author: Author) -> None:
    author.install(limits=LONG_NAMES)
    reports = [word for name in ("r.json", "r.md", "r.xml", "r.txt") for word in ("--report", name)]
    done = author.conformance("fussy", "-k", "test_long_names or replaces", *reports)
    assert "tests, in 2 of 13 groups with 1 declared limit\n" in done.stdout
    assert re.search(r"limits incomplete 0 of \d .* 1 limited, \d left out", flat(done.stdout))
    assert "declared limits\n  limits: test_long_names\n    names of more than 200 bytes\n" in done.stdout
    groups = json.loads((author.directory / "r.json").read_text())["drivers"][0]["groups"]
    (group,) = [group for group in groups if group["group"] == "limits"]
    assert (group["limited"], group["passed"], group["failed"], len(group["tests"])) == (1, 0, 0, 1)
    (test,) = [test for test in group["tests"] if test["outcome"] == "limited"]
    assert test["reason"] == "names of more than 200 bytes"
    assert "no name may have more than 200 bytes" in test["message"]
    assert "- `limits: test_long_names`: names of more than 200 bytes" in (author.directory / "r.md").read_text()
    skipped = ET.parse(author.directory / "r.xml").getroot().find("testsuite/testcase/skipped")
    assert skipped is not None and skipped.get("message") == "limited: names of more than 200 bytes"
    assert "1 limited" in (author.directory / "r.txt").read_text()


def test_limits_in_a_drivers_own_suite(author: Author) -> None:
    """Those of the package count, unless the class of tests has its own. Parameters of tests that do not run, too."""
    author.install(limits='{"limits: test_long_names": "x", "sizes: test_the_size_of_a_layer[nothing]": "y"}')
    suite = f"""{SUITE}
    class TestOwn(TestFussy):
        known_limits = {LONG_NAMES}

    class TestNone(TestFussy):
        known_limits = {{}}
"""
    nodes = [f"test_own.py::{name}::test_long_names" for name in ("TestFussy", "TestOwn", "TestNone")]
    done = author.pytest(suite, *nodes[:2], node="::TestNone::test_long_names", code=1)
    assert "1 failed, 2 xfailed" in done.stdout
    assert "FAILED test_own.py::TestNone::test_long_names" in done.stdout


def test_limits_of_another_package_do_not_count(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    author.install()
    author.install(limits=LONG_NAMES, name="other")
    points = author.site / "layerstore_driver_other-1.5.dist-info/entry_points.txt"
    points.write_text("[layerstore.known_limits]\nfussy = layerstore_other:KNOWN_LIMITS\n")
    monkeypatch.syspath_prepend(str(author.site))
    assert load_known_limits("fussy") == {}


def test_a_limit_without_parameters_is_for_all_of_them_and_has_to_hold(author: Author) -> None:
    limits = {"sizes: test_the_size_of_a_layer": "sizes are wrong", "sizes: test_the_size_of_changes": "it was wrong"}
    author.install(FUSSY_SIZES, limits=repr(limits))
    done = author.conformance("fussy", "--only", "sizes", "-k", "nothing or whiteouts or of_changes", code=1)
    assert "does not conform: 1 of 3 tests in 1 of 13 groups failed, with 2 declared limits" in done.stdout
    assert "sizes failed 0 of 14" in flat(done.stdout)
    assert "1 failed, 2 limited, 11 left out" in done.stdout
    assert "FAILED sizes: test_the_size_of_changes" in done.stdout
    assert "the limit does not hold any more: remove it from known_limits. It was: it was wrong" in done.stdout


FUSSY_SIZES = """
    from layerstore_core import hookimpl, unpack_layer
    from tests.conformance.mutants.base import Correct

    KNOWN_LIMITS = {}

    class FussyDriver(Correct):
        driver_name = "fussy"

        @hookimpl
        def apply_diff(self, layer_id, parent_id, diff):
            return unpack_layer(diff, str(self.tree(layer_id))) + 1
"""


def test_a_wrong_declaration_is_an_error(author: Author) -> None:
    author.install(limits='{"limits: test_long_name": "x"}')
    done = author.conformance("fussy", "--only", "limits", code=1)
    assert done.stderr.startswith("layerstore: TestInstalledDriver: there is no test 'limits: test_long_name'; did you")
    assert "GROUP: TEST as reports print it" in done.stderr


NAMES = [
    ("limits", "test_long_names"),
    ("limits", "test_many_files"),
    ("sizes", "test_size[a]"),
    ("sizes", "test_size[b]"),
]


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("limits: test_long_name", "test_long_name'; did you mean limits: test_long_names"),
        ("limits: test_many_files[a]", "there is no test 'limits: test_many_files[a]'; did you mean"),
        ("content: test_long_names", "there is no test 'content: test_long_names'"),
        ("sizes: test_size[c]", "did you mean sizes: test_size[b] or sizes: test_size[a]"),
    ],
)
def test_a_limit_that_names_no_test(limit: str, message: str) -> None:
    check_names({"limits: test_long_names": "x", "sizes: test_size": "x", "sizes: test_size[a]": "x"}, NAMES, "TestX")
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_names({limit: "x"}, NAMES, "TestX")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"limits: test_long_names": ""}, "'limits: test_long_names' must have a reason"),
        ({"limits: test_long_names": None}, "'limits: test_long_names' must have a reason"),
        ({7: "seven"}, "7 must have a reason"),
        (["limits: test_long_names"], "must be a mapping of tests to reasons, such as {"),
        ({str(number): "x" for number in range(1001)}, "must be a mapping"),
    ],
)
def test_limits_of_another_form(limits: object, message: str) -> None:
    suite = type("TestX", (), {"known_limits": limits})
    with pytest.raises(ConfigError, match=f"TestX.known_limits.*{re.escape(message)}"):
        declared_limits(suite, "x")


def test_a_wrong_declaration_in_several_processes(author: Author) -> None:
    author.install()
    suite = f'{SUITE}        known_limits = {{"limits: test_long_name": "x"}}\n'
    suite += "    class TestNameless(DriverConformance):\n        pass\n"
    done = author.pytest(suite, "--conformance-only", "sizes", "-n", "1", code=1)
    assert "there is no test 'limits: test_long_name'; did you mean limits: test_long_names" in done.stdout
    assert "TestNameless does not say which driver it tests" in done.stdout


def test_a_driver_that_does_not_start_has_no_limit(author: Author) -> None:
    source = FUSSY_SIZES.replace(
        '        driver_name = "fussy"\n', '        driver_name = "fussy"\n        def __init__(self, context): 1 / 0\n'
    )
    author.install(source, limits='{"sizes: test_the_size_of_a_base_layer": "x"}')
    done = author.conformance("fussy", "--only", "sizes", code=1)
    assert "does not conform: 14 of 14 tests" in done.stdout
    assert done.stdout.count("FAILED") == 1
    assert "driver fussy failed to start: ZeroDivisionError" in done.stdout
    assert "the same in 13 more tests: sizes: test_the_size_of_a_layer[a-file]" in done.stdout
