"""Small files and directories in a row: what most of a layer is, read with the least of Python for each.

Such an entry is announced by a common header (`header.parse_common_header`), after one for a long name at most, has a plain ASCII
name, and all of its payload is at hand. Consecutive headers differ in name, size, time and checksum; the rest of a header that
was accepted once is recognised as a whole. What this gives is what the scanner would give, an entry at a time.
"""

from __future__ import annotations

import re
from itertools import product
from struct import Struct
from typing import Final
from zlib import adler32

from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.header import BLOCK, MAX_NAME, parse_common_header, parse_header

#: A regular file of type `0`, or a directory, whose path needs no cleaning and is no whiteout's: the bytes of the tar from the last
#: payload to this one; the name in the tar; the path, which is the cleaned name; permission bits, user and group; time in ns;
#: payload, which stays valid, `None` of a directory; offset of its first header in the tar. A plain tuple, since there are so many.
PlainEntry = tuple[bytes, bytes, bytes, tuple[int, int, int], int, memoryview | None, int]

_SLASH: Final = 0x2F
_DOT: Final = 0x2E
#: A component that is to be cleaned away, or is a whiteout's.
_NEEDS_CARE: Final = re.compile(rb"(?:\A|/)\.(?:/|\./|\.?\Z|wh\.)")

#: How many are taken at once, and how many bytes of the tar they may have together.
_MOST: Final = 64
_SPAN: Final = 1 << 20

#: Name; mode, uid and gid; size and mtime, each with what ends it; checksum, with what ends it; and the rest.
_FIELDS: Final = Struct("100s24s11s1s11s1s6s2s356s")
_CHECKSUM_AT: Final = 148
#: What may end size, time and checksum.
_ENDS: Final = frozenset(map(b"".join, product((b"\0", b" "), (b"\0", b" "), (b"\0 ", b" \0", b"\0\0", b"  "))))
#: The checksum counts its own eight bytes as spaces; Adler-32 begins with one.
_SUM_OF_CHECKSUM: Final = 8 * 0x20 - 1

#: Files, directories, and the headers before them that tell a longer name: GNU's, and PAX's with no other record.
_KINDS: Final = frozenset({b"0", b"5", b"L", b"x"})
_PATH_RECORD: Final = re.compile(rb"([1-9][0-9]{1,3}) path=([^\0\n]+)\n")
#: Owners by their field, and by the rest of a header its type, the sum of its bytes and its name prefix: only of
#: headers that `parse_common_header` has accepted. Of both a tar has few.
_owners: Final[dict[bytes, tuple[int, int, int]]] = {}
_rests: Final[dict[bytes, tuple[bytes, int, bytes]]] = {}
_MAX_KNOWN: Final = 1024


def take_plain_entries(buffer: bytes, position: int, padding: int, offset: int) -> tuple[list[PlainEntry], int, int]:
    """The plain entries that follow in a piece of a tar, up to the first one that is something else.

    Args:
        buffer: the piece.
        position: where in it the last payload ended.
        padding: how many bytes follow before the next header.
        offset: of the piece in the tar, in bytes.

    Returns:
        The entries, at most 64, and what `position` and `padding` are after them.
    """
    entries: list[PlainEntry] = []
    length = len(buffer)
    view = memoryview(buffer)
    limit = position + _SPAN
    long_name = plain_above = b""
    at = position + padding  # of a header; `position` stays behind while headers precede the entry's own
    try:
        while len(entries) < _MOST and position < limit:
            start = at + BLOCK
            if start > length:
                break
            name, ids, size_digits, size_end, time_digits, time_end, sum_digits, sum_end, rest = _FIELDS.unpack_from(
                buffer, at
            )
            known = _rests.get(rest)
            owner = _owners.get(ids)
            if known is None or owner is None:
                learnt = _learn(buffer[at:start], ids, rest)
                if learnt is None:
                    break
                owner, known = learnt
            kind, rest_sum, prefix = known
            if (
                size_end + time_end + sum_end not in _ENDS
                # int() would take signs, spaces and underscores too.
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
            above, _, base = path.rpartition(b"/")
            if above != plain_above:
                if not _is_plain(above):
                    break
                plain_above = above
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
    except ValueError:  # a digit that is not octal
        pass
    return entries, position, padding


def entry_of(plain: PlainEntry) -> TarEntry:
    """The entry that the scanner would have given."""
    segment, name, _, _, _, _, offset = plain
    block = segment[-BLOCK:]
    # The name in a header after a long name may be anything: then it is no common header.
    entry = parse_common_header(block, offset) or parse_header(block, offset)
    entry.name = name
    return entry


def _is_plain(directory: bytes) -> bool:
    """Whether a directory's name needs no cleaning, and has nothing of a whiteout's."""
    slashed = b"/%b/" % directory
    if b"//" in slashed and directory:
        return False
    # The search takes twenty times as long as to see that no name begins with a dot.
    return directory.isascii() and not (b"/." in slashed and _NEEDS_CARE.search(directory))


def _long_name(kind: bytes, data: bytes) -> bytes:
    """The name that a header before the file's own gives it; empty where that says anything else, or strangely."""
    if kind == b"L":
        name = data.rstrip(b"\0")
        return name if len(name) <= MAX_NAME else b""
    record = _PATH_RECORD.fullmatch(data)
    return record[2] if record is not None and int(record[1]) == len(data) and len(data) <= MAX_NAME else b""


def _learn(block: bytes, ids: bytes, rest: bytes) -> tuple[tuple[int, int, int], tuple[bytes, int, bytes]] | None:
    """Have a header parsed, and remember what it shares with others; `None` if it is no common header of a kind known here."""
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
