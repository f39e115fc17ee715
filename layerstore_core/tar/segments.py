"""The entry that the segment before a payload describes, if the segment has all headers of it and nothing unusual."""

from __future__ import annotations

from typing import Final

from layerstore_core.base.paths import clean_name
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.header import BLOCK, MAX_NAME, HeaderError, parse_common_header, parse_string
from layerstore_core.tar.pax import apply_records, parse_records, parse_time
from layerstore_core.tar.plain_entries import PlainHeader, read_plain_header

#: Type flags of entries that need nothing but their headers. A hard link and the like have no payload here.
_SINGLE: Final = frozenset({b"0", b"1", b"2", b"5"})
#: PAX records that change nothing that is kept.
_IGNORED: Final = frozenset({b"atime", b"ctime"})
#: Times of more nanoseconds than this need care.
_MAX_TIME: Final = 1 << 80
#: Type flag and size of PAX and GNU headers by their blocks: many are equal but for what follows them.
_metas: Final[dict[bytes, tuple[bytes, int]]] = {}
_MAX_METAS: Final = 1024


def read_long_header(segment: bytes, padding: int) -> PlainHeader | None:
    """Read the headers of a plain entry that has one more header before its own, for a long name or for its times.

    Args:
        segment: the bytes of the tar from the last payload to this one.
        padding: the number of bytes of padding that it begins with.

    Returns:
        What `read_plain_header` returns for other entries, but the path may have any names that are not special.
        `None` for all other entries.
    """
    start = padding + BLOCK
    known = _metas.get(segment[padding:start]) or _learn_meta(segment[padding:start])
    if known is None:
        return None
    flag, size = known
    plain = read_plain_header(segment, start + size + (-size % BLOCK))
    if plain is None:
        return None
    path, owner, mtime_ns, length = plain
    data = segment[start : start + size]
    name = b""
    if flag == b"L":
        name = parse_string(data)
    else:
        try:
            records = parse_records(data)
        except HeaderError:
            return None
        for key, value in records.items():
            if key == b"mtime":
                time = parse_time(value)
                if time is None or not -_MAX_TIME < time < _MAX_TIME:
                    return None
                mtime_ns = time
            elif key == b"path":
                name = parse_string(value)
            elif key not in _IGNORED:
                return None
    if name:
        path = clean_name(name)
        if not path or path.startswith(b"..") or b".wh." in path or len(name) > MAX_NAME:
            return None
    return path, owner, mtime_ns, length


def _learn_meta(block: bytes) -> tuple[bytes, int] | None:
    entry = parse_common_header(block, 0) if len(block) == BLOCK else None
    if entry is None or entry.typeflag not in (b"x", b"L"):
        return None
    if len(_metas) >= _MAX_METAS:
        _metas.clear()
    found = _metas[block] = entry.typeflag, entry.size
    return found


def read_segment(segment: bytes, padding: int, size: int) -> TarEntry | None:
    """Read the headers of an entry.

    The result is the same as from `TarScanner.next_entry`, which is the reference, but for the entry's offset.

    Args:
        segment: the bytes of the tar from the last payload to this one.
        padding: the number of bytes of padding that it begins with.
        size: the length of this payload in bytes.

    Returns:
        The entry; `None` for any headers but common ones, before which there may be PAX and GNU headers for names,
        times, owners and attributes.
    """
    records: dict[bytes, bytes] | None = None
    long_name = long_link = b""
    at = padding
    length = len(segment)
    try:
        while True:
            start = at + BLOCK
            entry = parse_common_header(segment[at:start], 0) if start <= length else None
            if entry is None:
                return None
            flag = entry.typeflag
            if start == length:
                break
            end = start + entry.size
            at = end + (-entry.size % BLOCK)
            if at >= length:
                return None
            if flag == b"x":
                records = parse_records(segment[start:end])
            elif flag == b"L":
                long_name = parse_string(segment[start:end])
            elif flag == b"K":
                long_link = parse_string(segment[start:end])
            else:
                return None
        if flag not in _SINGLE:
            return None
        if records:
            if any(key.startswith(b"GNU.sparse.") for key in records):
                return None
            apply_records(entry, records)
    except HeaderError:
        return None  # the scanner says what is wrong
    if long_name:
        entry.name = long_name
    if long_link:
        entry.linkname = long_link
    if entry.stored_size != size or len(entry.name) > MAX_NAME or len(entry.linkname) > MAX_NAME:
        return None
    return entry
