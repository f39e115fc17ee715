"""Plain entries: batches of small files and directories, read with as little Python code per entry as possible.

Most entries of a layer are plain. A plain entry has a common header (`header.parse_common_header`), with at most one
header for a long name before it. Its name is plain ASCII, and its whole payload is in the buffer. Consecutive headers
differ in name, size, time and checksum. The rest of a header is remembered once it was accepted, and compared as a
whole afterwards. The results are the same as the scanner's, one entry at a time: `TarScanner.next_entry` is the
reference.
"""

from __future__ import annotations

import re
from itertools import product
from struct import Struct
from typing import Final
from zlib import adler32

from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.header import BLOCK, MAX_NAME, parse_common_header, parse_header

#: A regular file of type `0`, or a directory, whose path needs no cleaning and is not a whiteout. The members: the
#: bytes of the tar from the last payload to this one; the name in the tar; the path, which is the cleaned name;
#: permission bits, user and group; time in ns; the payload, which stays valid, or `None` for a directory; the offset of
#: its first header in the tar, in bytes. It is a plain tuple because there are so many.
PlainEntry = tuple[bytes, bytes, bytes, tuple[int, int, int], int, memoryview | None, int]

#: What `read_plain_header` returns.
PlainHeader = tuple[bytes, tuple[int, int, int], int, int]

_SLASH: Final = 0x2F
_DOT: Final = 0x2E
#: A component that cleaning removes, or that is a whiteout.
_NEEDS_CARE: Final = re.compile(rb"(?:\A|/)\.(?:/|\./|\.?\Z|wh\.)")

#: The largest number of entries in a batch, and of bytes in the tar after which no more entry begins.
_MAX_ENTRIES: Final = 64
_MAX_BYTES: Final = 1 << 20

#: Name; mode, uid and gid; size and mtime, each with its terminator; checksum, with its terminator; and the rest.
_FIELDS: Final = Struct("100s24s11s1s11s1s6s2s356s")
_CHECKSUM_AT: Final = 148
#: The valid terminators of size, time and checksum.
_ENDS: Final = frozenset(map(b"".join, product((b"\0", b" "), (b"\0", b" "), (b"\0 ", b" \0", b"\0\0", b"  "))))
#: The checksum counts its own eight bytes as spaces. Adler-32 begins at one, which is subtracted.
_SUM_OF_CHECKSUM: Final = 8 * 0x20 - 1

#: Files, directories, and the headers before them with a longer name: GNU's, and PAX's that have no other record.
_KINDS: Final = frozenset({b"0", b"5", b"L", b"x"})
_PATH_RECORD: Final = re.compile(rb"([1-9][0-9]{1,3}) path=([^\0\n]+)\n")
#: Mode, user and group by the fields that encode them. Type, sum of the bytes and name prefix by the rest of a header.
#: Both are only of headers that `parse_common_header` has accepted. A tar has few different ones of both.
_owners: Final[dict[bytes, tuple[int, int, int]]] = {}
_rests: Final[dict[bytes, tuple[bytes, int, bytes]]] = {}
_MAX_KNOWN: Final = 1024
#: Paths of directories that `_is_plain` has accepted.
_plain_directories: Final[set[bytes]] = set()


def read_plain_entries(buffer: bytes, position: int, padding: int, offset: int) -> tuple[list[PlainEntry], int, int]:
    """Read the plain entries that follow in a piece of a tar, up to the first entry that is not plain.

    Args:
        buffer: the piece.
        position: the index in the piece where the last payload ended.
        padding: the number of bytes of padding from there to the next header.
        offset: the offset of the piece in the tar, in bytes.

    Returns:
        The entries, at most 64, and the values of `position` and `padding` after them.
    """
    entries: list[PlainEntry] = []
    length = len(buffer)
    view = memoryview(buffer)
    limit = position + _MAX_BYTES
    long_name = plain_directory = b""
    at = position + padding  # of a header; `position` does not advance over a long name's header
    try:
        while len(entries) < _MAX_ENTRIES and position < limit:
            start = at + BLOCK
            if start > length:
                break
            name, ids, size_digits, size_end, time_digits, time_end, sum_digits, sum_end, rest = _FIELDS.unpack_from(
                buffer, at
            )
            known = _rests.get(rest)
            owner = _owners.get(ids)
            if known is None or owner is None:
                learned = _learn(buffer[at:start], ids, rest)
                if learned is None:
                    break
                owner, known = learned
            kind, rest_sum, prefix = known
            if (
                size_end + time_end + sum_end not in _ENDS
                # int() would also accept signs, spaces and underscores.
                or not (size_digits + time_digits + sum_digits).isdigit()
                or (adler32(buffer[at : at + _CHECKSUM_AT]) & 0xFFFF) + rest_sum + _SUM_OF_CHECKSUM
                != int(sum_digits, 8)
            ):
                break
            size = int(size_digits, 8)
            end = start + size
            if end > length:
                break
            if kind == b"0":
                content: memoryview | None = view[start:end]
                path = name = long_name or prefix + name.rstrip(b"\0")
            elif kind == b"5":
                if size:
                    break
                content = None
                name = long_name or prefix + name.rstrip(b"\0")
                path = name[:-1] if name.endswith(b"/") else name
            else:
                if long_name:
                    break
                long_name = _long_name(kind, buffer[start:end])
                if not long_name:
                    break
                at = end + (-size % BLOCK)
                continue
            if path.startswith(b"./"):
                path = path[2:]
            directory, _, base = path.rpartition(b"/")
            if directory != plain_directory:
                if not _is_plain(directory):
                    break
                plain_directory = directory
            if (
                not base
                or path[0] == _SLASH
                or (base[0] == _DOT and _NEEDS_CARE.search(base))
                or b"\0" in path
                or not base.isascii()
            ):
                break
            mtime_ns = int(time_digits, 8) * 1_000_000_000
            entries.append((buffer[position:start], name, path, owner, mtime_ns, content, offset + position + padding))
            long_name = b""
            position = end
            padding = -size % BLOCK
            at = end + padding
    except ValueError:  # a digit is not octal
        pass
    return entries, position, padding


def entry_of(plain: PlainEntry) -> TarEntry:
    """Return the entry that the scanner would have returned for a plain entry."""
    segment, name, _, _, _, _, offset = plain
    block = segment[-BLOCK:]
    # The name in a header after a long name may be anything. Then the header may be not a common one.
    entry = parse_common_header(block, offset) or parse_header(block, offset)
    entry.name = name
    return entry


def read_plain_header(segment: bytes, padding: int) -> PlainHeader | None:
    """Read the header of a plain entry without its payload.

    Args:
        segment: the bytes of the tar from the last payload to this one.
        padding: the number of bytes of padding that it begins with.

    Returns:
        Path, owner, time and size as `PlainEntry` has them, the size being -1 for a directory. `None` for an entry that
        is not plain, or that has a header for a long name.
    """
    if len(segment) != padding + BLOCK:
        return None
    name, ids, size_digits, size_end, time_digits, time_end, sum_digits, sum_end, rest = _FIELDS.unpack_from(
        segment, padding
    )
    known = _rests.get(rest)
    owner = _owners.get(ids)
    if known is None or owner is None:
        learned = _learn(segment[padding:], ids, rest)
        if learned is None:
            return None
        owner, known = learned
    kind, rest_sum, prefix = known
    if (
        size_end + time_end + sum_end not in _ENDS
        or not (size_digits + time_digits + sum_digits).isdigit()
        or (adler32(segment[padding : padding + _CHECKSUM_AT]) & 0xFFFF) + rest_sum + _SUM_OF_CHECKSUM
        != int(sum_digits, 8)
    ):
        return None
    size = int(size_digits, 8)
    path = prefix + name.rstrip(b"\0")
    if kind == b"5":
        if size:
            return None
        size = -1
        if path.endswith(b"/"):
            path = path[:-1]
    elif kind != b"0":
        return None
    if path.startswith(b"./"):
        path = path[2:]
    directory, _, base = path.rpartition(b"/")
    if directory not in _plain_directories:
        if not _is_plain(directory):
            return None
        if len(_plain_directories) >= _MAX_KNOWN:
            _plain_directories.clear()
        _plain_directories.add(directory)
    if (
        not base
        or path[0] == _SLASH
        or (base[0] == _DOT and _NEEDS_CARE.search(base))
        or b"\0" in path
        or not base.isascii()
    ):
        return None
    return path, owner, int(time_digits, 8) * 1_000_000_000, size


def _is_plain(directory: bytes) -> bool:
    """Return whether a directory's path needs no cleaning, and has no component that is a whiteout."""
    slashed = b"/%b/" % directory
    if b"//" in slashed and directory:
        return False
    # The search takes twenty times as long as the test that no component begins with a dot.
    return directory.isascii() and not (b"/." in slashed and _NEEDS_CARE.search(directory))


def _long_name(kind: bytes, data: bytes) -> bytes:
    """Return the name in a header for a long name; empty if the header has anything else, or an unusual form."""
    if kind == b"L":
        name = data.rstrip(b"\0")
        return name if len(name) <= MAX_NAME else b""
    record = _PATH_RECORD.fullmatch(data)
    return record[2] if record is not None and int(record[1]) == len(data) and len(data) <= MAX_NAME else b""


def _learn(block: bytes, ids: bytes, rest: bytes) -> tuple[tuple[int, int, int], tuple[bytes, int, bytes]] | None:
    """Parse a header, and remember what it has in common with others; `None` if it is not a common one of `_KINDS`."""
    for known in (_owners, _rests):
        if len(known) >= _MAX_KNOWN:
            known.clear()
    entry = parse_common_header(block, 0)
    if entry is None or entry.typeflag not in _KINDS:
        return None
    short = block[:100].split(b"\0", 1)[0]
    prefix = entry.name[: len(entry.name) - len(short)]
    owner = _owners[ids] = entry.mode, entry.uid, entry.gid
    found = _rests[rest] = entry.typeflag, (adler32(rest) & 0xFFFF) - 1, prefix
    return owner, found
