"""`layerstore check`: findings, repairs and exit codes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from layerstore_vfs.driver import VfsDriver

from layerstore_core import hookimpl
from tests.cli.commands.test_export import corrupt
from tests.cli.conftest import Run


def test_check_of_a_sound_store_finds_nothing(run: Run, base: Path) -> None:
    run("register", base)
    assert run("check").stdout == b""
    assert run("check", "--full", "--json").json == {"findings": [], "repaired": []}


def test_a_damaged_record_is_a_finding(run: Run, base: Path, root: Path) -> None:
    chain = run("register", base).text.strip()
    (root / "image/vfs/layerdb/sha256" / chain[7:] / "diff").write_text("")
    outcome = run("check", code=1)
    assert chain[7:] in outcome.text
    findings = run("check", "--json", code=1).json["findings"]
    assert len(outcome.lines) == len(findings)
    assert all(set(finding) == {"code", "subject", "message", "remedy"} for finding in findings)


def test_each_child_of_a_damaged_layer_is_a_finding(run: Run, base: Path, upper: Path, root: Path) -> None:
    low = run("register", base).text.strip()
    high = run("register", upper, "--parent", low).text.strip()
    run("rw", "create", "work", "--parent", low)
    db = root / "image/vfs/layerdb"
    (db / "sha256" / low[7:] / "diff").write_text("")
    findings = run("check", "--json", code=1).json["findings"]
    assert {finding["subject"] for finding in findings} == {str(db / "sha256" / low[7:] / "diff")}
    messages = sorted(finding["message"] for finding in findings)
    assert len(messages) == 3
    assert messages[1].endswith(f"; {db}/mounts/work depends on it")
    assert messages[2].endswith(f"; {db}/sha256/{high[7:]} depends on it")


def test_damaged_content_is_found_by_a_full_check(run: Run, base: Path, root: Path) -> None:
    chain = run("register", base).text.strip()
    corrupt(root)
    assert chain[7:] in run("check", "--full", code=1).text


def test_a_repaired_pin_is_reported_and_no_longer_a_finding(run: Run, base: Path, root: Path) -> None:
    run("register", base)
    pin = root / "layerstore/pins" / ("a" * 64)
    pin.touch()
    assert run("check", code=1).text.startswith(f"dangling-pin: sha256:{'a' * 64}: ")
    document = run("check", "--repair", "--json").json
    assert document["findings"] == []
    assert [finding["code"] for finding in document["repaired"]] == ["dangling-pin"]
    assert not pin.exists()
    assert run("check").lines == []


def test_repair_keeps_the_pin_of_a_layer_that_cannot_be_loaded(run: Run, base: Path, root: Path) -> None:
    chain = run("register", base).text.strip()
    diff = root / "image/vfs/layerdb/sha256" / chain[7:] / "diff"
    content = diff.read_text()
    diff.write_text("")
    # Without this file, a repair cannot restore the diff ID.
    diff.with_name("tar-split.json.gz").unlink()
    findings = run("check", "--repair", "--json", code=1).json
    assert ([f["code"] for f in findings["findings"]], findings["repaired"]) == (["unloadable"], [])
    diff.write_text(content)
    assert run("show", chain, "--json").json["pinned"] is True


@pytest.mark.parametrize(
    ("leftover", "code"),
    [
        (f"sha256/{'a' * 64}-123-removing", "unfinished-removal"),
        ("tmp/write-set-123", "dead-transaction"),
    ],
)
def test_stale_files_are_a_finding_only_if_they_cannot_be_removed(
    run: Run, used: Path, monkeypatch: pytest.MonkeyPatch, leftover: str, code: str
) -> None:
    path = used / "image/vfs/layerdb" / leftover

    def leave() -> None:
        path.mkdir()
        (path / "cache-id").write_text("b" * 64)

    def fail(self: VfsDriver, layer_id: str) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), layer_id)

    leave()
    assert run("check").lines == []
    assert not path.exists()
    leave()
    with monkeypatch.context() as patch:
        patch.setattr(VfsDriver, "remove", hookimpl(fail))
        outcome = run("check", "--repair", "--json", code=1)
        assert outcome.json["repaired"] == []
        assert [(f["code"], f["subject"]) for f in outcome.json["findings"]] == [(code, str(path))]
        assert os.strerror(errno.EBUSY) in outcome.stderr
    assert run("check", "--repair").lines == []
    assert not path.exists()


POOLED = """
from layerstore_core import hookimpl
from layerstore_core.sdk import DirectoryDriver

class Pooled(DirectoryDriver):
    @hookimpl
    def check_home(self):
        return [] if (self.context.home / "index").exists() else ["its index is \\x1b[31mmissing"]

    @hookimpl
    def repair_home(self):
        (self.context.home / "index").touch()
        return ["wrote its index again"]
"""


def test_what_a_driver_finds_in_its_home_is_shown_and_repaired(
    run: Run, root: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site/layerstore_driver_pooled-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: layerstore-driver-pooled\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[layerstore.drivers]\npooled = layerstore_pooled:Pooled\n")
    (tmp_path / "site/layerstore_pooled.py").write_text(POOLED)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    words = ("--root", root, "--driver", "pooled")
    run(*words, "register", base, store=False)
    home = root / "pooled"
    (line,) = run(*words, "check", store=False, code=1).lines
    assert line.startswith(f"broken-driver-home: {home}: its index is \\x1b[31mmissing (`layerstore check --repair` ")
    assert run(*words, "check", "--repair", store=False).lines == [
        f"repaired: broken-driver-home: {home}: its index is \\x1b[31mmissing: wrote its index again"
    ]
    assert run(*words, "check", store=False).lines == []
