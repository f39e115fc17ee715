"""The hot loops over any number of small files, on which the budgets of instructions are measured.

`python benchmarks/loops.py DIRECTORY LOOP:COUNT...`. DIRECTORY must exist. Each loop runs in its own process, which
begins as a copy of this one. So a tool that counts does not go through the imports again for each loop. A line of the
output has the number of a process and its loop.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Final

from fastcrc import crc64

from layerstore_core.tar.encode import END_OF_ARCHIVE, encode_header, padding
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tarsplit.assemble_blocks import assemble_blocks
from layerstore_core.tarsplit.codec import LineReader, LineWriter, decode_blocks
from layerstore_core.tarsplit.record import Recorder
from layerstore_core.tree.files import TreeFiles
from layerstore_core.unpack.unpacker import unpack_layer

_PER_DIRECTORY: Final = 50
_SIZE: Final = 200


def make_tar(count: int) -> bytes:
    """Return a tar of `count` files of 200 bytes, in directories as in a layer."""
    parts = []
    for number in range(count):
        name = b"usr/share/doc/package-%05d/file-%02d.txt" % divmod(number, _PER_DIRECTORY)
        if not number % _PER_DIRECTORY:
            parts.append(encode_header(TarEntry(name.rpartition(b"/")[0] + b"/", EntryType.DIR, 0o755)))
        parts += [
            encode_header(TarEntry(name, EntryType.FILE, size=_SIZE, mtime_ns=1_700_000_000_000_000_000)),
            b"x" * _SIZE + padding(_SIZE),
        ]
    return b"".join([*parts, END_OF_ARCHIVE])


def _stream(tar: bytes, out: io.BytesIO | None = None) -> LayerStream:
    listener = Recorder(LineWriter(out), crc64.go_iso) if out is not None else None
    file = io.BytesIO(tar)
    return LayerStream(TarScanner(lambda: file.read(1 << 20)), listener)


def nothing(tar: bytes, directory: str) -> None:
    """Do nothing with the tar. This is the base that the other loops are compared with."""


def scan(tar: bytes, directory: str) -> None:
    """Parse the tar."""
    _stream(tar).drain()


def record(tar: bytes, directory: str) -> None:
    """Parse the tar, and write its tar-split lines."""
    _stream(tar, io.BytesIO()).drain()


def unpack(tar: bytes, directory: str) -> None:
    """Parse the tar, and create its files."""
    unpack_layer(_stream(tar), directory)


def export(tar: bytes, directory: str) -> None:
    """Parse the tar, write its tar-split lines, create its files, and assemble the tar again."""
    out = io.BytesIO()
    diff = _stream(tar, out)
    unpack_layer(diff, directory)
    diff.drain()
    files = TreeFiles(directory)
    try:
        with LineReader(io.BytesIO(out.getvalue())) as lines:
            assert sum(map(len, assemble_blocks(decode_blocks(lines.blocks()), files))) == len(tar)
    finally:
        files.close()


LOOPS: Final[dict[str, Callable[[bytes, str], None]]] = {
    "nothing": nothing,
    "scan": scan,
    "record": record,
    "unpack": unpack,
    "export": export,
}

if __name__ == "__main__":
    where, *runs = sys.argv[1:]
    for run in runs:
        loop, _, entries = run.partition(":")
        pid = os.fork()
        if pid == 0:
            directory = os.path.join(where, run)
            os.mkdir(directory)
            LOOPS[loop](make_tar(int(entries)), directory)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if status:
            sys.exit(f"{run} ended with status {status}")
        print(pid, run)
