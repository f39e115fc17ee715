from __future__ import annotations

from pathlib import Path

from ..conftest import Run
from .test_export import corrupt


def test_all_is_well(run: Run, base: Path) -> None:
    run("register", base)
    assert run("check").stdout == b""
    assert run("check", "--full", "--json").json == {"findings": [], "repaired": []}


def test_damaged_metadata_is_a_finding(run: Run, base: Path, root: Path) -> None:
    chain = run("register", base).text.strip()
    (root / "image/vfs/layerdb/sha256" / chain[7:] / "diff").write_text("")
    outcome = run("check", code=1)
    assert chain[7:] in outcome.text
    findings = run("check", "--json", code=1).json["findings"]
    assert len(outcome.lines) == len(findings)
    assert all(set(finding) == {"code", "subject", "message", "remedy"} for finding in findings)


def test_damaged_content_is_found_by_a_full_check(run: Run, base: Path, root: Path) -> None:
    chain = run("register", base).text.strip()
    corrupt(root)
    assert chain[7:] in run("check", "--full", code=1).text


def test_what_can_be_repaired_is_no_finding_any_more(run: Run, base: Path, root: Path) -> None:
    run("register", base)
    leftover = root / "image/vfs/layerdb/sha256" / f"{'a' * 64}-123-removing"
    leftover.mkdir()
    (leftover / "cache-id").write_text("b" * 64)
    assert run("check", code=1).lines
    document = run("check", "--repair", "--json").json
    assert document["findings"] == []
    assert len(document["repaired"]) == 1
    assert not leftover.exists()
    assert run("check").lines == []
