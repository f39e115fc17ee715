"""The entry that the segment before a payload describes, if the segment has all headers of it and nothing unusual."""

from __future__ import annotations

from typing import Final

from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.header import BLOCK, MAX_NAME, HeaderError, parse_header, parse_string
from layerstore_core.tar.pax import apply_records, parse_records

#: Type flags of entries that need nothing but their headers. A hard link and the like have no payload here.
_SINGLE: Final = frozenset({b"0", b"1", b"2", b"5"})


def read_segment(segment: bytes, padding: int, size: int) -> TarEntry | None:
    """Read the headers of an entry.

    The result is the same as from `TarScanner.next_entry`, which is the reference, but for the entry's offset.

    Args:
        segment: the bytes of the tar from the last payload to this one.
        padding: the number of bytes of padding that it begins with.
        size: the length of this payload in bytes.

    Returns:
        The entry, if it is a file, a directory or a link, and has at most PAX and GNU headers for names, times, owners
        and attributes before its own; `None` for any other.
    """
    records: dict[bytes, bytes] | None = None
    long_name = long_link = b""
    at = padding
    length = len(segment)
    try:
        while True:
            start = at + BLOCK
            if start > length:
                return None
            entry = parse_header(segment[at:start], 0)
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
