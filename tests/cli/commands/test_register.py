"""`layerstore register`: chain IDs, parents, and tars that are refused."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core.base.digests import ChainID, DiffID, chain_id
from layerstore_core.store import store as store_module
from tests.cli.conftest import Run, tar_of, tree


def diff_id(tar: Path) -> DiffID:
    return DiffID.of(tar.read_bytes())


def test_register_prints_only_the_chain_id(run: Run, base: Path) -> None:
    assert run("register", base).stdout == f"{diff_id(base)}\n".encode()


def test_register_reads_a_compressed_tar_from_standard_input(run: Run, base: Path) -> None:
    assert run("register", "-", stdin=gzip.compress(base.read_bytes())).text == f"{diff_id(base)}\n"


@pytest.mark.parametrize("digits", [8, 64, 71])
def test_a_parent_may_be_given_by_its_first_digits(run: Run, base: Path, upper: Path, digits: int) -> None:
    parent = ChainID(run("register", base).text.strip())
    shortened = parent if digits > 64 else parent.hex[:digits]
    expected = chain_id(diff_id(upper), parent)
    assert run("register", upper, "--parent", shortened).text == f"{expected}\n"


def test_register_in_json(run: Run, base: Path, upper: Path) -> None:
    parent = run("register", base).text.strip()
    document = run("register", upper, "--parent", parent, "--json").json
    assert document == {
        "chain_id": chain_id(diff_id(upper), ChainID(parent)),
        "diff_id": diff_id(upper),
        "parent": parent,
        "size": 20 + 5000 + 14 + 300,
        "diff_size": 14 + 300,
        "pinned": True,
    }


def test_gc_keeps_a_registered_layer_because_it_is_pinned(run: Run, base: Path) -> None:
    chain = run("register", base).text.strip()
    assert run("gc").text == ""
    assert hashlib.sha256(run("export", chain).stdout).hexdigest() == chain[7:]


def test_registering_a_tar_again_gives_the_same_layer(run: Run, base: Path, root: Path) -> None:
    first = run("register", base)
    before = tree(root)
    assert run("register", base).stdout == first.stdout
    assert tree(root) == before


def test_register_with_an_unknown_parent_leaves_nothing(run: Run, base: Path, used: Path) -> None:
    before = tree(used)
    outcome = run("register", base, "--parent", "ab" * 32, code=1)
    assert "no layer sha256:" in outcome.stderr
    assert tree(used) == before


@pytest.mark.parametrize("cut", [1, 511, 513, 1500])
def test_a_damaged_tar_is_refused_and_leaves_nothing(run: Run, base: Path, used: Path, cut: int) -> None:
    before = tree(used)
    outcome = run("--json", "register", "-", stdin=base.read_bytes()[:cut], code=1)
    assert outcome.stdout == b""
    assert outcome.error["type"] == "InvalidLayer"
    assert tree(used) == before


def test_an_empty_input_is_a_layer_only_with_allow_empty(run: Run, used: Path) -> None:
    before = tree(used)
    assert "--allow-empty" in run("register", "-", stdin=b"", code=1).stderr
    assert tree(used) == before
    run("register", "-", "--allow-empty", stdin=b"")


def test_the_error_names_the_input_that_is_no_tar(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tar\n" * 200)
    assert run("register", tmp_path / "text", code=1).stderr.endswith(f"\n  while registering {tmp_path}/text\n")
    assert run("register", "-", stdin=b"x", code=1).stderr.endswith("\n  while registering standard input\n")


def test_registering_a_directory_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    assert "is a directory" in run("register", tmp_path, code=2).stderr


def test_register_opens_a_file_whose_name_is_not_utf8(run: Run, base: Path, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/odd\xff.tar"
    os.link(base, odd)
    assert run("register", os.fsdecode(odd)).text == f"{diff_id(base)}\n"


def test_a_layer_that_cannot_be_pinned_is_removed(run: Run, used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(used)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "pins")

    monkeypatch.setattr(store_module.LayerStore, "pin", fail)
    run("register", "-", stdin=tar_of({"a": b"a"}), code=1)
    assert tree(used) == before


@pytest.mark.needs_root
def test_a_full_disk_is_an_error_without_names_of_temporary_files(
    run: Run, root: Path, tmp_path: Path, tmpfs: Callable[[str], Path]
) -> None:
    tar = tmp_path / "large.tar"
    tar.write_bytes(tar_of({"large": bytes(3 << 20)}))
    place = tmpfs("size=2m")
    done = run("--root", place, "--driver", "vfs", "register", tar, store=False, code=1)
    assert "No space left on device (while unpacking 'large'" in done.stderr
    assert f"with records in {place}/image/vfs/layerdb" in done.stderr
    assert "write-set" not in done.stderr
