"""Layers that are made to exhaust whoever takes them in: memory stays within bounds, and nothing is left of them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore_core import remove_tree
from tests import tars
from tests.reliability.thorough import THOROUGH
from tests.store.layers import tar_of

TOP = Path(__file__).resolve().parents[2]
MIB = 1 << 20
#: Registers a layer with a size limit, and prints what came of it, and how much memory that took more than a small one.
PROGRAM = """
import json, pathlib, re, sys
from layerstore_core import InvalidLayer, LayerStore, StoreConfig
root, small, bomb = sys.argv[1:]
def peak():
    # Not what getrusage says: that counts whoever has started this process, too.
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
with LayerStore.open(StoreConfig(root=root, driver="vfs", durability="none", max_layer_size="8M")) as store:
    store.register(small)
    before = peak()
    try:
        store.register(bomb)
        said = ""
    except (InvalidLayer, OSError) as error:
        said = f"{type(error).__name__}: {error}"[:500]
    left = len(store.driver.layer_ids()) - 1, len(list((store.db.path / "tmp").iterdir())), len(store.layers()) - 1
    print(json.dumps([said, peak() - before, left]))
"""


def zeros(size):
    """A gzip of an entry of zeros: members one after the other are one stream."""
    member = gzip.compress(bytes(16 * MIB), 9)
    return gzip.compress(tars.header(b"zeros", size=size)) + member * (size // (16 * MIB)) + gzip.compress(tars.END)


def entries(count):
    blank = tars.header(b"0000000000")
    parts = [tars.with_checksum(b"%010d" % number + blank[10:]) for number in range(count)]
    return gzip.compress(b"".join(parts) + tars.END, 1)


BOMBS = {
    "a gigabyte of zeros": (lambda: zeros(1 << 30), "larger than the limit"),
    "a size that lies": (lambda: tars.header(b"a", size=1 << 60), "cut off"),
    "more entries than the limit has blocks": (
        lambda: entries(200_000 if THOROUGH else 18_000),
        "larger than the limit",
    ),
    "deep nesting": (lambda: tars.tar(tars.entry(b"d/" * 2000 + b"f", b"x")), ""),
    "a long name": (lambda: tars.tar(tars.entry(b"n" * MIB, b"x")), "at most"),
    "a huge PAX record": (
        lambda: tars.tar(tars.pax([(b"comment", b"x" * (6 * MIB))]), tars.entry(b"a", b"x")),
        "at most",
    ),
    "many PAX records": (
        lambda: tars.tar(tars.pax([(b"comment.%d" % n, b"x") for n in range(45_000)]), tars.entry(b"a")),
        "",
    ),
    "thousands of regions": (
        lambda: tars.tar(
            tars.pax([(b"GNU.sparse.size", b"9" * 15), (b"GNU.sparse.map", b",".join([b"1,0"] * 200_000))]),
            tars.entry(b"s", b""),
        ),
        "",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_it_stays_within_bounds(bomb, tmp_path):
    make, expected = BOMBS[bomb]
    (tmp_path / "small").write_bytes(tar_of({"small": b"small"}))
    (tmp_path / "bomb").write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "store", tmp_path / "small", tmp_path / "bomb"],
        cwd=TOP,
        env={"PYTHONPATH": str(TOP), "PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
        timeout=240,
    )
    said, memory, left = json.loads(done.stdout)
    remove_tree(tmp_path / "store")  # pytest's own cleaning is not made for such trees
    assert memory < 64 * MIB, said
    if expected:
        assert expected in said
    if said:
        assert left == [0, 0, 0]
