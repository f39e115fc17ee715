"""The tables of the documentation, written by runs that leave each other's alone."""

from __future__ import annotations

import json

import pytest

from tests.reliability.figures import Figures, note, noted
from tests.reliability.report import DOCUMENT, write

TEXT = "# Title\n\nWords.\n\n## Figures\n\nold\n\n## Soak\n\nolder\n"


def test_what_is_noted_is_summed_up(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERSTORE_FIGURES", str(tmp_path / "figures"))
    note("kills", 3, 0, 10)
    note("cuts", 5, 1)
    note("kills", 4, 0, 20)
    assert noted((tmp_path / "figures").read_text().splitlines()) == [Figures("cuts", 5, 1), Figures("kills", 7, 0, 30)]


def test_each_writes_its_own_section(tmp_path):
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


def test_a_section_that_is_not_there(tmp_path):
    (tmp_path / "document.md").write_text(TEXT)
    with pytest.raises(ValueError, match="Other"):
        write("Other", [], "", "", tmp_path / "document.md")


def test_the_documentation_has_both():
    text = DOCUMENT.read_text()
    assert text.count("\n## Figures\n") == text.count("\n## Soak\n") == 1
    assert json.dumps(str(DOCUMENT.parents[1])) not in text
