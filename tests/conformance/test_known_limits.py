"""Limits that a driver declares: tests that it fails for a reason, in its package or in its class of tests."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import pytest

from layerstore_core import ConfigError
from layerstore_core.conformance.outcomes.known_limits import check_names, declared_limits
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
    assert "limits incomplete 0 of 4" in flat(done.stdout)
    assert "declared limits\n  limits: test_long_names\n    names of more than 200 bytes\n" in done.stdout
    groups = json.loads((author.directory / "r.json").read_text())["drivers"][0]["groups"]
    (group,) = [group for group in groups if group["group"] == "limits"]
    assert (group["known"], group["limited"], group["passed"], group["failed"]) == (4, 1, 0, 0)
    (test,) = [test for test in group["tests"] if test["outcome"] == "limited"]
    assert test["reason"] == "names of more than 200 bytes"
    assert "no name may have more than 200 bytes" in test["message"]
    assert "- `limits: test_long_names`: names of more than 200 bytes" in (author.directory / "r.md").read_text()
    skipped = ET.parse(author.directory / "r.xml").getroot().find("testsuite/testcase/skipped")
    assert skipped is not None and skipped.get("message") == "limited: names of more than 200 bytes"
    assert "1 limited" in (author.directory / "r.txt").read_text()


def test_the_drivers_own_suite_uses_the_metadata_of_the_package(author: Author) -> None:
    author.install(limits=LONG_NAMES)
    assert "1 xfailed" in author.pytest(SUITE, node="::TestFussy::test_long_names").stdout


def test_a_limit_in_the_class_of_tests_replaces_those_of_the_package(author: Author) -> None:
    author.install(limits='{"limits: test_no_such": "x"}')
    suite = f"{SUITE}        known_limits = {LONG_NAMES}\n"
    assert "1 xfailed" in author.pytest(suite, node="::TestFussy::test_long_names").stdout
    done = author.pytest(f"{SUITE}        known_limits = {{}}\n", node="::TestFussy::test_long_names", code=1)
    assert "1 failed" in done.stdout


def test_limits_of_another_package_do_not_count(author: Author) -> None:
    author.install()
    author.install(limits=LONG_NAMES, name="other")
    points = author.site / "layerstore_driver_other-1.5.dist-info/entry_points.txt"
    points.write_text("[layerstore.known_limits]\nfussy = layerstore_other:KNOWN_LIMITS\n")
    assert "does not conform" in author.conformance("fussy", "-k", "test_long_names", code=1).stdout


@pytest.mark.parametrize("key", ["sizes: test_the_size_of_a_layer[nothing]", "sizes: test_the_size_of_a_layer"])
def test_a_limit_that_does_not_hold_is_a_failure(author: Author, key: str) -> None:
    author.install(limits=repr({key: "it was broken once"}))
    chosen = "nothing" if "[" in key else "replaces or whiteouts"
    done = author.conformance("fussy", "--only", "sizes", "-k", chosen, code=1)
    number = 1 if "[" in key else 2
    assert f"does not conform: {number} of {number} test" in done.stdout
    assert "the limit does not hold any more: remove it from known_limits. It was: it was broken once" in done.stdout


def test_a_limit_without_parameters_is_for_all_of_them(author: Author) -> None:
    author.install(FUSSY_SIZES, limits='{"sizes: test_the_size_of_a_layer": "sizes are not counted"}')
    done = author.conformance("fussy", "--only", "sizes", "-k", "nothing or whiteouts")
    assert "sizes incomplete 0 of 14" in flat(done.stdout)
    assert "2 limited, 12 left out" in done.stdout


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
    done = author.pytest(suite, "--conformance-only", "limits", code=4)
    assert "ERROR: TestFussy: there is no test 'limits: test_long_name'; did you mean limits: test_lon" in done.stderr
    done = author.pytest(suite, "--conformance-only", "limits", "-n", "2", code=1)
    assert "there is no test 'limits: test_long_name'; did you mean limits: test_long_names" in done.stdout


def test_a_limit_of_a_single_test(author: Author) -> None:
    """A run of one test cannot check the parameters of the others."""
    author.install(limits='{"limits: test_long_names": "x", "sizes: test_the_size_of_a_layer[nothing]": "y"}')
    assert "1 passed" in author.pytest(SUITE, node="::TestFussy::test_many_files").stdout


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
