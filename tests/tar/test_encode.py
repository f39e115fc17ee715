"""Encoding tar headers: the scanner reads the same entry back, and PAX is used only if it is needed."""

from __future__ import annotations

from typing import Any

import pytest

from layerstore_core.tar.encode import END_OF_ARCHIVE, encode_header
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.scanner import TarScanner

LARGE = 1 << 40


@pytest.mark.parametrize(
    ("fields", "blocks"),
    [
        ({}, 1),
        ({"name": b"n" * 100}, 1),
        ({"name": b"p" * 155 + b"/" + b"n" * 100}, 1),
        ({"name": b"p" * 156 + b"/" + b"n" * 100}, 3),
        ({"name": b"n" * 101}, 3),
        ({"name": b"d" * 100 + b"/", "type": EntryType.DIR}, 3),
        ({"name": b"p/" + b"d" * 99 + b"/", "type": EntryType.DIR}, 1),
        ({"name": "\u00e9".encode()}, 3),
        ({"name": b"\xff"}, 1),
        ({"name": b"\xff" * 200}, 3),
        ({"name": b"a\nb c=d"}, 1),
        ({"type": EntryType.SYMLINK, "linkname": b"t" * 100}, 1),
        ({"type": EntryType.SYMLINK, "linkname": b"t" * 101}, 3),
        ({"type": EntryType.SYMLINK, "linkname": b"\xfe"}, 1),
        ({"type": EntryType.HARDLINK, "linkname": "\u00fc".encode()}, 3),
        ({"type": EntryType.CHAR, "devmajor": 4095, "devminor": 1048575}, 1),
        ({"type": EntryType.FIFO, "mode": 0o7777}, 1),
        ({"uid": 0o7777777, "gid": 0o7777777}, 1),
        ({"uid": 0o10000000}, 3),
        ({"gid": (1 << 32) - 2}, 3),
        ({"mtime_ns": 0o77777777777 * 1_000_000_000}, 1),
        ({"mtime_ns": (0o77777777777 + 1) * 1_000_000_000}, 3),
        ({"mtime_ns": 1_000_000_001}, 3),
        ({"mtime_ns": -1}, 3),
        ({"mtime_ns": -1_500_000_000}, 3),
        ({"xattrs": {b"user.x": b"\0=\n\xff"}}, 3),
        ({"xattrs": {b"user.x": b"v" * 600}}, 4),
        ({"xattrs": {b"user.empty": b""}}, 3),
        ({"xattrs": {b"user.=x=": b"1", b"user.%25": b"2", b"user.%3D%3d%": b"3", b"user.%%25=%": b"4"}}, 3),
    ],
)
def test_an_entry_is_read_back_as_it_was_written(fields: dict[str, Any], blocks: int) -> None:
    entry = TarEntry(**{"name": b"name", "type": EntryType.FILE, **fields})
    header = encode_header(entry)
    assert len(header) == blocks * 512
    chunks = iter([header, END_OF_ARCHIVE])
    _, back = TarScanner(lambda: next(chunks, b"")).next_entry()
    assert back is not None
    back.typeflag, back.offset = entry.typeflag, 0
    assert back == entry


def test_a_size_beyond_the_octal_field_is_read_back() -> None:
    chunks = iter([encode_header(TarEntry(b"big", EntryType.FILE, size=LARGE))])
    _, back = TarScanner(lambda: next(chunks, b"")).next_entry()
    assert back is not None
    assert back.size == back.stored_size == LARGE


@pytest.mark.parametrize("size", range(84, 104))
def test_a_pax_record_counts_its_own_length(size: int) -> None:
    """At about 100 bytes, the length has one more digit, which makes the record longer."""
    entry = TarEntry(b"name", EntryType.FILE, xattrs={b"u": b"v" * (size - len(b"99 SCHILY.xattr.u=\n"))})
    chunks = iter([encode_header(entry), END_OF_ARCHIVE])
    _, back = TarScanner(lambda: next(chunks, b"")).next_entry()
    assert back is not None
    assert back.xattrs == entry.xattrs
