"""The layers that Docker's overlay2 has made of the tars of a corpus, compared with those of this driver."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import stat
from pathlib import Path

import pytest

from .conftest import build, stream
from .trees import RECENT

SHARED = Path(os.environ.get("LAYERSTORE_SHARED") or Path(__file__).parents[4] / "shared")
CORPUS = SHARED / "corpus"


def accepted():
    try:
        oracle = json.loads((CORPUS / "docker-oracle.json").read_text())
    except OSError as error:
        return [pytest.param(None, str(error), id="the corpus is missing")]
    return [pytest.param(name, one["diffdir"], id=name) for name, one in sorted(oracle.items()) if one["load"] == "ok"]


def read(path):
    data = path.read_bytes()
    return {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(path.suffix, bytes)(data)


def listed(root):
    """Return a listing of a tree in the oracle's format: path|type|mode|uid|gid|size|link|mtime."""
    lines = set()
    root = os.fsencode(root)
    for directory, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            kind = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}.get(stat.S_IFMT(status.st_mode))
            kind = kind or {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}[stat.S_IFMT(status.st_mode)]
            link = os.readlink(path) if kind == "l" else b""
            lines.add((
                os.path.relpath(path, root),
                kind,
                f"{stat.S_IMODE(status.st_mode):o}",
                str(status.st_uid),
                str(status.st_gid),
                "" if kind == "d" else str(status.st_size),
                link,
                _time(status.st_mtime_ns),
            ))  # fmt: skip
    return lines


def _time(mtime_ns):
    # The times of implied directories are set by the kernel, and differ from run to run.
    return "recent" if mtime_ns > RECENT * 10**9 else mtime_ns


def expected(lines):
    # The oracle writes each byte of a name as the character with the same number.
    found = set()
    for line in lines:
        path, kind, mode, uid, gid, size, link, mtime = line.split("|")
        seconds, _, fraction = mtime.partition(".")
        mtime_ns = int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
        found.add(
            (
                path.encode("latin-1"),
                kind,
                mode,
                uid,
                gid,
                "" if kind == "d" else size,
                link.encode("latin-1"),
                _time(mtime_ns),
            )
        )
    return found


@pytest.mark.parametrize(("name", "diffdir"), accepted())
def test_a_layers_own_directory_is_the_same_as_docker_makes(name, diffdir, one_driver):
    assert name is not None, f"{diffdir}; the corpus is looked for in ../shared, or where LAYERSTORE_SHARED says"
    one_driver.create("layer", "", {})
    one_driver.apply_diff("layer", "", stream(read(CORPUS / name)))
    assert listed(one_driver.metadata("layer")["UpperDir"]) == expected(diffdir)
    # As the child of another layer it is the same: entries of a tar do not depend on lower layers.
    build(one_driver, "base", "", "elsewhere")
    one_driver.create("again", "base", {})
    one_driver.apply_diff("again", "base", stream(read(CORPUS / name)))
    assert listed(one_driver.metadata("again")["UpperDir"]) == expected(diffdir)
