"""Tars in the dialects of other programs, and odd ones that no program should write.

A store has to export all of them bit for bit. `DIALECTS` has the bytes of each by its name. All of them are layers that
can be applied to an empty directory.
"""

from __future__ import annotations

import random
from typing import Final

from layerstore_core.conformance.tars import (
    Item,
    directory,
    file,
    hard_link,
    opaque,
    special,
    symlink,
    tar_of,
    whiteout,
)
from layerstore_core.tar.encode import END_OF_ARCHIVE, padding
from layerstore_core.tar.entry import EntryType
from layerstore_core.tar.header import BLOCK

_CHECKSUM: Final = slice(148, 156)
_PREFIX_OF_GNU: Final = 345


def altered(header: bytes, fields: dict[int, bytes], *, signed: bool = False) -> bytes:
    """Return a header block with other bytes at some offsets, and the checksum of the new block."""
    block = bytearray(header[:BLOCK])
    for offset, data in fields.items():
        block[offset : offset + len(data)] = data
    block[_CHECKSUM] = b" " * 8
    total = sum(block) - (256 * sum(byte > 127 for byte in block) if signed else 0)
    block[_CHECKSUM] = b"%06o\0 " % total
    return bytes(block) + header[BLOCK:]


def _plain(name: bytes, content: bytes = b"", **metadata: object) -> bytes:
    """Return an entry with one header block. Its time in whole seconds needs no PAX record."""
    return file(name, content, mtime_ns=1_700_000_000_000_000_000, **metadata).encode()


def _gnu(block: bytes) -> bytes:
    return altered(block, {257: b"ustar  \0"})


def _long_name(name: bytes) -> bytes:
    return _gnu(altered(_plain(b"././@LongLink", name + b"\0"), {156: b"L"})) + _gnu(_plain(name[:100], b"far away"))


def _base256() -> bytes:
    """Return an entry with a number in base 256, as GNU tar writes numbers that are too large for octal digits."""
    return altered(_gnu(_plain(b"large", b"x" * 10)), {124: b"\x80" + (10).to_bytes(11, "big")})


def _version7() -> bytes:
    return altered(_plain(b"old", b"as in 1979"), {257: bytes(BLOCK - 257)})


def _directory_by_slash() -> bytes:
    """Return a directory of version 7, which has no type for directories: the slash at the end marks them."""
    return altered(_plain(b"dir/"), {156: b"\0", 257: bytes(BLOCK - 257)}) + _plain(b"dir/file", b"inside")


def _signed_checksum() -> bytes:
    return altered(_plain(b"caf\xe9", b"summed as signed bytes"), {}, signed=True)


def _sparse_old_gnu() -> bytes:
    data = b"begin" + b"end"
    offsets = b"%011o\0%011o\0%011o\0%011o\0" % (0, 5, 70_000, 3)
    return altered(
        _plain(b"sparse", data), {156: b"S", 257: b"ustar  \0", 386: offsets.ljust(96, b"\0"), 483: b"%011o\0" % 70_003}
    )


def _sparse_pax() -> bytes:
    lines = b"2\n0\n5\n70000\n3\n"
    data = lines + padding(len(lines)) + b"begin" + b"end"
    records = _record(b"GNU.sparse.major", b"1") + _record(b"GNU.sparse.minor", b"0")
    records += _record(b"GNU.sparse.name", b"sparse") + _record(b"GNU.sparse.realsize", b"70003")
    return _extended(b"x", records) + _plain(b"GNUSparseFile.0/sparse", data)


def _extended(typeflag: bytes, records: bytes) -> bytes:
    return altered(_plain(b"PaxHeaders/x", records), {156: typeflag})


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d%b" % (length, rest)


def _hard_link_with_data() -> bytes:
    return _plain(b"first", b"same") + altered(_plain(b"second", b"same"), {156: b"1", 157: b"first"})


def _noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def _with_end(data: bytes) -> bytes:
    return data + END_OF_ARCHIVE


_ORDINARY: Final[list[Item]] = [
    directory(b"etc"),
    file(b"etc/hosts", b"127.0.0.1 localhost\n"),
    symlink(b"etc/alias", b"hosts"),
    hard_link(b"etc/twin", b"etc/hosts"),
    file(b"etc/empty"),
    special(b"pipe", EntryType.FIFO),
]


def _ordinary_without_padding(padding: bytes) -> bytes:
    return b"".join(item.encode() for item in _ORDINARY) + _plain(b"last", b"the end")[: BLOCK + 7] + padding


DIALECTS: Final[dict[str, bytes]] = {
    "no-entries": END_OF_ARCHIVE,
    "no-bytes": b"",
    "ordinary": tar_of(_ORDINARY),
    "records-of-ten-kib": tar_of(_ORDINARY) + bytes(-len(tar_of(_ORDINARY)) % 10_240),
    "no-end": b"".join(item.encode() for item in _ORDINARY),
    "no-end-and-no-padding": _ordinary_without_padding(b""),
    "no-end-and-half-a-padding": _ordinary_without_padding(bytes(100)),
    "one-end-block": tar_of(_ORDINARY)[:-BLOCK],
    "bytes-after-the-end": tar_of(_ORDINARY) + b"not a part of the archive",
    "megabytes": tar_of([file(b"noise", _noise((3 << 20) + 17)), file(b"after", b"it")]),
    "no-pax": _with_end(_plain(b"a", b"1") + _plain(b"b", b"2")),
    "gnu": _with_end(_gnu(_plain(b"a", b"1"))),
    "gnu-long-name": _with_end(_long_name(b"long/" + b"n" * 180)),
    "pax-long-name": tar_of([file(b"long/" + b"p" * 180, b"far away")]),
    "ustar-prefix": tar_of([file(b"d" * 90 + b"/" + b"f" * 90, b"in two fields", mtime_ns=0)]),
    "base-256": _with_end(_base256()),
    "version-7": _with_end(_version7()),
    "directory-by-slash": _with_end(_directory_by_slash()),
    "signed-checksum": _with_end(_signed_checksum()),
    "global-header": _with_end(_extended(b"g", _record(b"comment", b"of the whole archive")) + _plain(b"a", b"1")),
    "unknown-record": _with_end(_extended(b"x", _record(b"VENDOR.thing", b"kept")) + _plain(b"a", b"1")),
    "sparse-old-gnu": _with_end(_sparse_old_gnu()),
    "sparse-pax": _with_end(_sparse_pax()),
    "hard-link-with-data": _with_end(_hard_link_with_data()),
    "not-utf-8": tar_of([file(b"caf\xe9", b"latin-1"), symlink(b"\xff\xfe", b"caf\xe9")]),
    "same-name-twice": tar_of([file(b"a", b"first"), file(b"a", b"second"), file(b"b", b"other")]),
    "replaced-by-a-directory": tar_of([file(b"a", b"a file"), directory(b"a"), file(b"a/b", b"below")]),
    "whited-out-in-the-same-layer": tar_of([file(b"a", b"gone"), whiteout(b"a"), file(b"b", b"stays")]),
    "whiteouts": tar_of([whiteout(b"etc/gone"), opaque(b"srv"), whiteout(b"top")]),
    "names-that-are-not-clean": tar_of([file(b"./a//b/../c", b"1"), file(b"/root", b"2"), directory(b"./")]),
    "no-name": _with_end(_plain(b"", b"content of nothing") + _plain(b"./", b"and more") + _plain(b"a", b"1")),
    "without-directories": tar_of([file(b"deep/down/in/here", b"1")]),
    "extended-attributes": tar_of([file(b"a", b"1", xattrs={b"user.k": b"v\0w"})]),
    "padding-that-is-not-zero": _with_end(_plain(b"a", b"x" * 100)[: BLOCK + 100] + b"\xaa" * (BLOCK - 100)),
}
