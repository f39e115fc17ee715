"""The page of the cross run: a row for each mutant, which says what counted it, and keeps its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.mutants import MUTANTS
from tests.conformance.table import CROSS, Counted, cross_text, read_results


def rows_of(text: str) -> dict[str, list[str]]:
    """Return the rows of the page by mutant."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_each_mutant_has_a_row_with_the_kit_that_counted_it() -> None:
    rows = rows_of(CROSS.read_text())
    assert list(rows) == ["Correct", *MUTANTS]
    assert all(len(row) == 3 and len(row[2]) >= 7 for row in rows.values())
    assert rows["Correct"][:2] == ["none", "0"]


def test_what_was_not_run_keeps_its_row(tmp_path: Path) -> None:
    name, mutant = list(MUTANTS.items())[3]
    results = tmp_path / "results"
    tests = [[mutant.caught_in, "test_a"], ["model", "test_c"], [mutant.caught_in, "test_b"]]
    results.write_text(json.dumps({"kit": "1234567", "failed": {name: tests}}) + "\n")
    before = CROSS.read_text()
    after = cross_text(read_results(results), before)
    assert rows_of(after) == rows_of(before) | {name: [f"**{mutant.caught_in}** 2, model 1", "3", "1234567"]}


def test_correct_driver_that_fails_makes_no_page() -> None:
    with pytest.raises(AssertionError, match="the correct driver has failed"):
        cross_text({"Correct": Counted(["model"], "1234567")}, "")
