"""The tables in the documentation: each run replaces its own table only."""

from __future__ import annotations

import json

import pytest

from tests.reliability.figures import Figures, note, sum_figures
from tests.reliability.report import DOCUMENT, write

TEXT = "# Title\n\nWords.\n\n## Figures\n\nold\n\n## Soak\n\nolder\n"


def test_figures_of_a_proof_are_summed_up(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERSTORE_FIGURES", str(tmp_path / "figures"))
    note("kills", 3, 0, 10)
    note("cuts", 5, 1)
    note("kills", 4, 0, 20)
    assert sum_figures((tmp_path / "figures").read_text().splitlines()) == [
        Figures("cuts", 5, 1),
        Figures("kills", 7, 0, 30),
    ]


def test_write_replaces_its_own_section(tmp_path):
    document = tmp_path / "document.md"
    document.write_text(TEXT)
    write("Figures", [Figures("cuts", 5, 1)], "all", "make this", document)
    write("Soak", [Figures("vfs", 7, 0, 30), Figures("btrfs", 1, 0, 2)], "2 minutes", "make that", document)
    once = document.read_text()
    assert once.startswith("# Title\n\nWords.\n\n## Figures\n\nOf ")
    assert "all. `make this` writes this table.\n\n| proof |" in once
    assert "| cuts |  | 5 | 1 |\n| all together |  | 5 | 1 |\n\n## Soak\n\nOf " in once
    assert once.endswith("| vfs | 30 | 7 | 0 |\n| btrfs | 2 | 1 | 0 |\n| all together | 32 | 8 | 0 |\n")
    write("Figures", [Figures("cuts", 5, 1)], "all", "make this", document)
    assert document.read_text() == once


def test_write_of_a_missing_section(tmp_path):
    (tmp_path / "document.md").write_text(TEXT)
    with pytest.raises(ValueError, match="Other"):
        write("Other", [], "", "", tmp_path / "document.md")


def test_the_documentation_has_both_sections():
    text = DOCUMENT.read_text()
    assert text.count("\n## Figures\n") == text.count("\n## Soak\n") == 1
    assert json.dumps(str(DOCUMENT.parents[1])) not in text
