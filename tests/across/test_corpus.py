"""Real and awkward tars of other projects: each comes back exactly, or is refused; and what Docker made of them."""

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

#: What the listing of our tree may differ in from that of Docker's diff directory: nothing but the times of
#: directories that have no entry, which both make when they need them.
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


def names(condition: Any = lambda known: True) -> list[str]:
    """The corpus, as parameters; where it is missing one that fails, so that nobody takes no tests for good ones."""
    if not CORPUS.is_dir():
        return ["the corpus is missing"]
    return [name for name, known in oracle().items() if condition(known)]


def path_of(name: str) -> Path:
    path = CORPUS / name
    assert path.is_file(), (
        f"{path} is not there: the corpus of tars stands in `shared/` beside the checkout, or where LAYERSTORE_SHARED says"
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
    """As `find -printf '%P|%y|%m|%U|%G|%s|%l|%T@'` has it, its bytes taken for Latin-1, without directory sizes."""
    found = {}
    for path in paths(root):
        full = os.path.join(os.fsencode(root), path)
        status = os.lstat(full)
        kind = letter(status.st_mode)
        target = os.readlink(full).decode("latin-1") if kind == "l" else ""
        seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
        size = "" if kind == "d" else status.st_size
        found[path.decode("latin-1")] = (
            f"{kind}|{status.st_mode & 0o7777:o}|{status.st_uid}|{status.st_gid}|{size}|{target}|{seconds}.{nanoseconds:09d}"
        )
    return found


def expected_listing(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        path, kind, mode, uid, gid, size, target, mtime = line.split("|")
        size = "" if kind == "d" else size
        assert mtime.endswith("0"), "find gives ten digits, of which the last is none of the file's"
        found[path] = "|".join([kind, mode, uid, gid, size, target, mtime[:-1]])
    return found


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize("name", names())
def test_comes_back_exactly_or_is_refused(name: str, root: Path, tmp_path: Path) -> None:
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
def test_is_stored_as_docker_stores_it(name: str, root: Path) -> None:
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


def test_most_of_it_is_accepted(root: Path) -> None:
    """So that a fault that refuses everything is seen here, whatever the oracle says."""
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
