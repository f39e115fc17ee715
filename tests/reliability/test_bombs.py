"""Layers that are built to exhaust memory or disk: memory is bounded, and nothing of a refused layer is left."""

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
#: A program that registers a layer with a size limit. It prints the result, the memory that it took in addition to that
#: of a small layer, in bytes, and what is left.
PROGRAM = """
import json, pathlib, re, sys
from layerstore_core import InvalidLayer, LayerStore, StoreConfig
root, small, bomb, limit = sys.argv[1:]
def peak():
    # Not from getrusage: that also counts the process that has started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
with LayerStore.open(StoreConfig(root=root, driver="vfs", durability="none", max_layer_size=limit)) as store:
    store.register(small)
    before = peak()
    try:
        store.register(bomb)
        said = ""
    except (InvalidLayer, OSError) as error:
        said = f"{type(error).__name__}: {error}"[:500]
    temporary = len(list((store.context.db.path / "tmp").iterdir()))
    left = len(store.driver.layer_ids()) - 1, temporary, len(store.layers()) - 1
    print(json.dumps([said, peak() - before, left]))
"""


def zeros(size):
    """Return a gzip of a file of zeros. The members of a gzip, one after another, are one stream."""
    member = gzip.compress(bytes(16 * MIB), 9)
    return gzip.compress(tars.header(b"zeros", size=size)) + member * (size // (16 * MIB)) + gzip.compress(tars.END)


def entries(count, name=b"%010d"):
    """Yield the pieces of a gzip of so many empty files."""
    blank = tars.header(name % 0)
    width = len(name % 0)
    for start in range(0, count, 10_000):
        numbers = range(start, min(count, start + 10_000))
        yield gzip.compress(b"".join(tars.with_checksum(name % number + blank[width:]) for number in numbers), 1)
    yield gzip.compress(tars.END)


def deep(count):
    """Yield the pieces of a gzip of so many paths of 2,000 directories each, which no other path has."""
    for number in range(count):
        yield gzip.compress(tars.entry(b"%08d/" % number + b"d/" * 2000 + b"f", b"x"), 1)
    yield gzip.compress(tars.END)


def pax_of(size):
    """Yield the pieces of a PAX header of so many bytes."""
    record = b"%d comment=" % (size + len(b"%d comment=\n" % size))
    length = len(record) + size + 1
    record = b"%d comment=" % length
    yield tars.header(b"pax", size=length, typeflag=b"x")
    yield record
    for _ in range(size // MIB):
        yield b"x" * MIB
    yield b"\n" + bytes(-length % 512) + tars.entry(b"a", b"x") + tars.END


def implied(count, depth):
    """Yield the pieces of a gzip of so many files, each in its own directories of a depth."""
    for number in range(count):
        yield gzip.compress(tars.entry(b"%04d/" % number + b"d/" * depth + b"f", b"x"), 1)
    yield gzip.compress(tars.END)


BOMBS = {
    "directories that names imply": (
        lambda: list(implied(100, 1500)),
        "directories that its names imply, it is larger",
    ),
    "a gigabyte of zeros": (lambda: zeros(1 << 30), "larger than the limit"),
    "a size that lies": (lambda: tars.header(b"a", size=1 << 60), "cut off"),
    "more entries than the limit has blocks": (
        lambda: entries(18_000),
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


#: Layers that take minutes: the content, the expected error, the size limit, and the MiB of memory that it may take.
#: Layers below their limit are registered. Then memory has a hash of each entry's name, and the path of each directory.
LARGE_BOMBS = {
    "a million entries": (lambda: entries(1_000_000), "larger than the limit", "8M", 64),
    "a million entries, allowed": (lambda: entries(1_000_000), "", "8G", 192),
    "forty thousand directories, two thousand deep": (lambda: deep(20), "", "8G", 128),
    "a gigabyte of zeros, allowed": (lambda: [zeros(1 << 30)], "", "2G", 64),
    "sixteen gigabytes of zeros": (lambda: [zeros(1 << 34)], "larger than the limit", "1G", 64),
    "a PAX record of a gigabyte": (lambda: pax_of(1 << 30), "at most", "8M", 64),
}
ALL = {name: (make, expected, "8M", 64) for name, (make, expected) in BOMBS.items()}
ALL |= LARGE_BOMBS if THOROUGH else {}


@pytest.mark.timeout(1800 if THOROUGH else 300)
@pytest.mark.parametrize("bomb", ALL)
def test_memory_of_a_bomb_stays_within_bounds(bomb, tmp_path):
    """A layer takes at most so much more memory than a small one, and nothing of a refused layer is left."""
    make, expected, limit, most = ALL[bomb]
    content = make()
    (tmp_path / "small").write_bytes(tar_of({"small": b"small"}))
    with open(tmp_path / "bomb", "wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "store", tmp_path / "small", tmp_path / "bomb", limit],
        cwd=TOP,
        env={"PYTHONPATH": str(TOP), "PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
        timeout=1500 if THOROUGH else 240,
    )
    said, memory, left = json.loads(done.stdout)
    remove_tree(tmp_path / "store")  # pytest's own cleanup cannot remove such trees
    assert memory < most * MIB, said
    assert expected in said
    assert expected or not said or limit == "8M"
    if said:
        assert left == [0, 0, 0]
