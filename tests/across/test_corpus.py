"""The corpus: real and odd tars of other projects. Each is exported exactly or refused, and stored as by Docker."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from layerstore_core.errors import InvalidLayer
from tests.conftest import needs_root
from tests.pipeline import assemble_tar, unpack_tar
from tests.tree_state import letter, paths

SHARED = Path(os.environ.get("LAYERSTORE_SHARED") or Path(__file__).resolve().parents[3] / "shared")
CORPUS = SHARED / "corpus"

#: Directories without an entry, which both programs create when they need them. Only their times may differ between the
#: listings of our tree and of Docker's diff directory.
IMPLIED_DIRECTORIES = {
    "tarrs/pax.tar": {"src"},
    "tarrs/pax2.tar": {"/".join(["a" * 15] * depth) for depth in range(1, 12)},
    "tarsplit/gnu-multi-hdrs.tar": {"GNU2", "GNU2/GNU2"},
    "tarsplit/invalid-go17.tar": {"a" * 97},
    "tarsplit/pax.tar": {"a"},
    "tarsplit/trailing-slash.tar": {"/".join(["123456789"] * depth) for depth in range(1, 30)},
    "tarsplit/ustar.tar": {"/".join(["longname"] * depth) for depth in range(1, 16)},
}


@cache
def oracle() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((CORPUS / "docker-oracle.json").read_bytes())
    return found


def names(condition: Any = lambda known: True) -> list[Any]:
    """Return the names in the corpus. If it is missing, return one case that is skipped, which fails in the gate."""
    if not CORPUS.is_dir():
        reason = f"the corpus is missing: it is in {CORPUS.parent}, or in the directory that LAYERSTORE_SHARED names"
        return [pytest.param("", marks=pytest.mark.skip(reason=reason), id="no corpus")]
    return [name for name, known in oracle().items() if condition(known)]


def path_of(name: str) -> Path:
    path = CORPUS / name
    assert path.is_file(), (
        f"{path} is missing: the corpus of tars is in `shared/` next to the checkout, or in the directory that "
        "LAYERSTORE_SHARED names"
    )
    return path


def plain(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    return bz2.decompress(data) if path.suffix == ".bz2" else data


def gnu_tar_extracts(path: Path, where: Path) -> bool:
    where.mkdir()
    return subprocess.run(["tar", "-xf", path, "-C", where], capture_output=True, check=False).returncode == 0


def listing(root: Path) -> dict[str, str]:
    """Return the lines of `find -printf '%P|%y|%m|%U|%G|%s|%l|%T@'`, read as Latin-1, without sizes of directories."""
    found = {}
    for path in paths(root):
        full = os.path.join(os.fsencode(root), path)
        status = os.lstat(full)
        kind = letter(status.st_mode)
        target = os.readlink(full).decode("latin-1") if kind == "l" else ""
        seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
        size = "" if kind == "d" else status.st_size
        found[path.decode("latin-1")] = (
            f"{kind}|{status.st_mode & 0o7777:o}|{status.st_uid}|{status.st_gid}|{size}|{target}|"
            f"{seconds}.{nanoseconds:09d}"
        )
    return found


def expected_listing(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        path, kind, mode, uid, gid, size, target, mtime = line.split("|")
        size = "" if kind == "d" else size
        assert mtime.endswith("0"), "find prints ten digits, but files have nine"
        found[path] = "|".join([kind, mode, uid, gid, size, target, mtime[:-1]])
    return found


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize("name", names())
def test_a_tar_of_the_corpus_is_exported_exactly_or_refused(name: str, root: Path, tmp_path: Path) -> None:
    path = path_of(name)
    try:
        taken = unpack_tar(path, root)
    except InvalidLayer:
        assert oracle()[name]["load"] != "ok", "Docker accepts it"
        assert not gnu_tar_extracts(path, tmp_path / "gnu"), "GNU tar extracts it"
    else:
        tar = plain(path)
        assert assemble_tar(taken) == tar
        assert taken.diff_id == hashlib.sha256(tar).hexdigest()
        assert oracle()[name]["diff_id"] == f"sha256:{taken.diff_id}"


@needs_root
@pytest.mark.parametrize("name", names(lambda known: known.get("roundtrip") is True))
def test_a_tar_of_the_corpus_is_stored_as_by_docker(name: str, root: Path) -> None:
    known = oracle()[name] if CORPUS.is_dir() else {}
    taken = unpack_tar(path_of(name), root)
    assert hashlib.sha256(taken.lines).hexdigest() == known["tarsplit_sha256"]
    assert len(taken.entries) == known["tarsplit_n"]
    assert taken.size == known["stored_size"]
    assert not taken.lines_rewritten

    ours, dockers = listing(root), expected_listing(known["diffdir"])
    for path in IMPLIED_DIRECTORIES.get(name, ()):
        ours[path], dockers[path] = ours[path].rpartition("|")[0], dockers[path].rpartition("|")[0]
    assert ours == dockers


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the corpus is missing: {CORPUS}")
def test_most_tars_of_the_corpus_are_accepted(root: Path) -> None:
    """A fault that refuses every tar must fail here, whatever the oracle says."""
    accepted = 0
    for number, name in enumerate(names()):
        where = root / str(number)
        where.mkdir()
        try:
            unpack_tar(path_of(name), where)
            accepted += 1
        except InvalidLayer:
            pass
    assert accepted >= len(oracle()) - 9
