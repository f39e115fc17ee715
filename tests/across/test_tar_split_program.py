"""The public program `tar-split` writes the same lines as this project, and assembles tars from this project's."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import tars
from tests.pipeline import UnpackedLayer, round_trip

pytestmark = [
    pytest.mark.needs_kernel,
    pytest.mark.skipif(shutil.which("tar-split") is None, reason="the program `tar-split` is not installed"),
]

FILES = [tars.directory(b"d"), tars.entry(b"d/a", b"content"), tars.entry(b"b", b"x" * 1500), tars.symlink(b"l", b"b")]
LONG = b"long/" * 40 + b"name"

ACCEPTED = {
    "files": tars.tar(*FILES),
    "no end": tars.tar(*FILES, end=b""),
    "no padding": tars.tar(*FILES, end=tars.header(b"last", size=5) + b"hello"),
    "half an end": tars.tar(*FILES, end=bytes(512)),
    "blocking factor": tars.tar(*FILES, end=bytes(10240)),
    "junk behind": tars.tar(*FILES) + b"junk" * 1000,
    "a trailer of several pieces": tars.tar(*FILES) + bytes(3 << 20),
    "a trailer over a chunk's end": tars.tar(tars.entry(b"a", b"x" * 1_000_000), end=bytes(100_000)),
    "nothing": b"",
    "an end alone": tars.END,
    "v7": tars.tar(*(tars.entry(b"f%d" % n, b"x" * n, form="v7") for n in range(5))),
    "gnu": tars.tar(tars.long_name(LONG) + tars.entry(b"n", b"x", form="gnu", uid=1 << 31, mtime=-5)),
    "gnu link": tars.tar(tars.long_name(LONG, b"K") + tars.symlink(b"l", b"x")),
    "pax": tars.tar(
        tars.pax([(b"path", LONG), (b"mtime", b"1.5"), (b"SCHILY.xattr.user.a", b"v")]) + tars.entry(b"n", b"x")
    ),
    "pax size": tars.tar(tars.pax([(b"size", b"5")]) + tars.header(b"n") + tars.padded(b"12345")),
    "global": tars.tar(tars.pax([(b"comment", b"c")], typeflag=b"g", name=b"pax_global_header"), *FILES),
    "global with a path": tars.tar(tars.pax([(b"path", b"glob")], typeflag=b"g"), *FILES),
    "star and prefix": tars.tar(
        tars.entry(b"n", b"x", form="star", prefix=b"p/q"), tars.entry(b"m", prefix=b"r" * 150)
    ),
    "hard link": tars.tar(*FILES, tars.hard_link(b"h", b"d/a")),
    "a fifo": tars.tar(tars.entry(b"fifo", typeflag=b"6")),
    "whiteouts": tars.tar(*FILES, tars.entry(b".wh.x"), tars.entry(b"d/.wh..wh..opq"), tars.entry(b".wh..wh.aufs")),
    "names of all kinds": tars.tar(
        *(
            tars.entry(name, b"x")
            for name in (
                b'<a>&"b"\\',
                b"tab\tnewline\nbell\7",
                b"\xe2\x80\xa8\xe2\x80\xa9",
                b"\xff\xfe",
                b"\x7f",
                b"./e",
            )
        ),
        tars.entry("ä☺\U0001f600\ufffd".encode(), b"x"),
        tars.entry(b"/absolute", b"x"),
    ),
    "odd checksum and numbers": tars.tar(
        tars.with_checksum(tars.header(b"\xe4" * 50), signed=True), tars.header(b"z", uid=0, fields={108: bytes(8)})
    ),
    "an old directory": tars.tar(tars.entry(b"old/", typeflag=b"\0", form="v7"), tars.entry(b"old/f", b"x")),
    "an empty name": tars.tar(tars.directory(b""), tars.entry(b"f", b"x")),
}

INLINE = {
    "duplicates": [
        tars.entry(b"a", b"one"),
        tars.entry(b"a", b"two"),
        tars.entry(b"./a", b"three"),
        tars.directory(b"d"),
    ],
    "sparse": [
        tars.sparse_pax(b"s%d" % n, bytes(9000) + b"x", [(9000, 1)], v) for n, v in enumerate(("0.0", "0.1", "1.0"))
    ],
    "old sparse": [tars.sparse_old_gnu(b"s", bytes(9000) + b"x", [(n * 100, 1) for n in range(60)])],
    "hard links with data": [tars.entry(b"a", b"data"), tars.hard_link(b"b", b"a", b"data"), tars.entry(b"c", b"x")],
    # The program writes the size with the checksum of no bytes, which no file will match.
    "sizes that mean nothing": [
        tars.entry(b"b", b"x"),
        tars.header(b"i", typeflag=b"1", linkname=b"b", size=1500),
        tars.header(b"d", typeflag=b"5", size=9),
        tars.header(b"l", typeflag=b"2", linkname=b"t", size=700),
    ],
    "no name": [tars.entry(b"", b"data"), tars.entry(b"./", b"more"), tars.symlink(b"", b"x"), tars.entry(b"a", b"x")],
    "unknown": [tars.entry(b"u", b"data", typeflag=b"Z"), tars.entry(b"D", b"data", typeflag=b"D")],
    "deleted again": [tars.entry(b"d/a", b"data"), tars.entry(b".wh.d"), tars.entry(b"e", b"x")],
    "a large payload inline": [tars.entry(b"u", b"0123456789" * 300_000, typeflag=b"Z")],
}


def asm(taken: UnpackedLayer, where: Path) -> bytes:
    lines, out = where / "lines.gz", where / "out.tar"
    lines.write_bytes(taken.packed_lines)
    command = ["tar-split", "asm", "--input", lines, "--path", taken.root, "--output", out]
    subprocess.run(command, check=True, capture_output=True)
    return out.read_bytes()


@pytest.mark.parametrize("kind", ACCEPTED)
def test_tar_split_writes_the_same_lines(kind: str, root: Path, tmp_path: Path) -> None:
    taken = round_trip(ACCEPTED[kind], root)
    tar, theirs = tmp_path / "layer.tar", tmp_path / "theirs.gz"
    tar.write_bytes(ACCEPTED[kind])
    subprocess.run(["tar-split", "disasm", "--no-stdout", "--output", theirs, tar], check=True, capture_output=True)
    assert taken.lines.splitlines() == gzip.decompress(theirs.read_bytes()).splitlines()
    assert not taken.lines_rewritten
    assert asm(taken, tmp_path) == ACCEPTED[kind]


@pytest.mark.parametrize("padding", [b"\0", bytes(500), b"z" * 9])
def test_tar_split_assembles_tars_that_end_within_padding(padding: bytes, root: Path, tmp_path: Path) -> None:
    tar = tars.tar(*FILES, end=tars.header(b"last", size=5) + b"hello" + padding)
    assert asm(round_trip(tar, root), tmp_path) == tar


@pytest.mark.parametrize("kind", INLINE)
def test_tar_split_assembles_tars_that_it_cannot_disassemble(kind: str, root: Path, tmp_path: Path) -> None:
    tar = tars.tar(*INLINE[kind])
    assert asm(round_trip(tar, root), tmp_path) == tar
