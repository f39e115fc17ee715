"""The kit catches every mutant, in the group where a driver's author would look for the fault."""

from __future__ import annotations

import os

import pytest

from tests.conformance import table
from tests.conformance.mutants import MUTANTS

# One process runs all mutants, once.
pytestmark = pytest.mark.xdist_group("mutants")


@pytest.fixture(scope="module")
def failed():
    if os.geteuid() != 0:
        pytest.skip("some of the mutants mount and chown, which needs the rights of root")
    return table.run(os.environ.get("LAYERSTORE_TEST_MUTANTS", "known"))


def test_all_mutants_run_in_one_process(request) -> None:
    """A pytest that does not let pytest-xdist name groups would run all of them in each process."""
    if getattr(request.config.option, "loadgroup", False):
        assert request.node.nodeid.endswith("@mutants")


@pytest.mark.needs_root
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_in_its_group(failed, name: str) -> None:
    assert {group for group, _ in failed[name]} == {MUTANTS[name].caught_in}


@pytest.mark.needs_root
def test_the_table_of_mutants_in_the_docs_is_up_to_date(failed) -> None:
    assert rows(table.text_of(failed)) == rows(table.DOCUMENT.read_text()), "run: python -m tests.conformance.table"


def rows(text: str) -> list[str]:
    """Return the lines, without the test that catches a race first: it differs from run to run."""
    races = ("| concurrency |", "| ReturnsBeforeFilesAreComplete |")
    return [line.rsplit("|", 2)[0] if any(race in line for race in races) else line for line in text.splitlines()]


def test_every_group_catches_a_mutant() -> None:
    from layerstore_core.conformance import GROUPS

    assert len(MUTANTS) >= 25
    assert {mutant.caught_in for mutant in MUTANTS.values()} == GROUPS.keys() - {"speed"}


def test_the_docs_have_the_number_of_mutants() -> None:
    guide = table.DOCUMENT.with_name("conformance.md").read_text()
    assert f"[{len(MUTANTS)} drivers that were broken on purpose]" in guide
