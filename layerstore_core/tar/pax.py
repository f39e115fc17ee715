"""PAX extended headers: their records, and how these change an entry.

Format: POSIX.1-2017, `pax`, "pax Extended Header": `<length> <key>=<value>\\n`, the length in decimal
and counting itself. Extended attributes: star's `SCHILY.xattr.` keys, as Docker reads and writes them. A key cannot
contain an equals sign: GNU tar (1.28 and later) writes `%3D` for it, and `%25` for a percent sign, and reads both back.
"""

from __future__ import annotations

import re
from typing import Final

from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.header import HeaderError

XATTR_PREFIX: Final = b"SCHILY.xattr."
_SPARSE_PAIR: Final = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
#: Escape sequences in a name. A percent sign is escaped only where a reader would otherwise misread it: Docker does not
#: unescape keys.
_ESCAPED: Final = re.compile(rb"%(25|3D)")
_TO_ESCAPE: Final = re.compile(rb"=|%(?=25|3D)")


def parse_records(data: bytes) -> dict[bytes, bytes]:
    """Read the records of one extended header. If a key is repeated, its last value counts.

    GNU's sparse format 0.0 repeats a pair of keys for each region. These values are joined under `GNU.sparse.map`, as
    format 0.1 has them.

    Raises:
        HeaderError: a record is malformed.
    """
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 21)
        length_text = data[position:space] if space > 0 else b""
        if not length_text.isdigit():
            if not data[position:].strip(b"\0"):
                break  # some writers count NULs that fill the block as content; GNU tar accepts it
            raise HeaderError("a record of the extended header does not begin with its length")
        end = position + int(length_text)
        record = data[space + 1 : end - 1]
        if end > len(data) or end <= space + 2 or data[end - 1 : end] != b"\n":
            raise HeaderError("a record of the extended header does not end where its length says")
        key, equals, value = record.partition(b"=")
        if not equals or not key or b"\0" in key:
            raise HeaderError("a record of the extended header has no proper key")
        if key in _SPARSE_PAIR:
            if key != _SPARSE_PAIR[len(sparse) % 2] or b"," in value:
                raise HeaderError("the sparse records of the extended header are out of order")
            sparse.append(value)
        else:
            records[key] = value
        position = end
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def parse_decimal(text: bytes, what: str) -> int:
    """Read a decimal number, with an optional sign.

    Args:
        text: the number.
        what: the name of the number in an error message.

    Raises:
        HeaderError: the text is not a number, or does not fit 64 bits.
    """
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    if not digits.isdigit() or len(digits.lstrip(b"0")) > 19:
        raise HeaderError(f"the {what} in the extended header is not a number: {text[:40]!r}")
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise HeaderError(f"the {what} in the extended header does not fit 64 bits")
    return value


def parse_time(text: bytes) -> int | None:
    """Read a time in seconds with an optional fraction, and return it in nanoseconds; `None` if it is malformed.

    Digits beyond nanoseconds are discarded, as Go does, so that the file system and Docker have the same time.
    """
    sign = -1 if text.startswith(b"-") else 1
    seconds, _, fraction = text.removeprefix(b"-").partition(b".")
    if not seconds.isdigit() or len(seconds) > 19 or (fraction and not fraction.isdigit()):
        return None
    return sign * (int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0")))


def xattr_key(name: bytes) -> bytes:
    """Return the record key for the extended attribute `name`."""
    return XATTR_PREFIX + _TO_ESCAPE.sub(lambda found: b"%%%02X" % ord(found[0]), name)


def _xattr_name(key: bytes) -> bytes:
    """Return the name of the extended attribute that a record key encodes: the inverse of `xattr_key`."""
    return _ESCAPED.sub(lambda found: b"%" if found[1] == b"25" else b"=", key[len(XATTR_PREFIX) :])


def apply_records(entry: TarEntry, records: dict[bytes, bytes]) -> None:
    """Override the values of an entry's own header with the records of its local extended header.

    An empty value changes nothing, except for an extended attribute, whose value may be empty. A malformed time changes
    nothing either, as with GNU tar.

    Raises:
        HeaderError: a size or an ID is not a number, or a size is negative.
    """
    xattrs: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(XATTR_PREFIX):
            xattrs[_xattr_name(key)] = value
        elif not value:
            continue
        elif key == b"path":
            entry.name = value.split(b"\0", 1)[0]
        elif key == b"linkpath":
            entry.linkname = value.split(b"\0", 1)[0]
        elif key == b"size":
            entry.size = entry.stored_size = parse_decimal(value, "size")
            if entry.size < 0:
                raise HeaderError("the size in the extended header is negative")
        elif key == b"mtime":
            mtime = parse_time(value)
            if mtime is not None:
                entry.mtime_ns = mtime
        elif key == b"uid":
            entry.uid = parse_decimal(value, "uid")
        elif key == b"gid":
            entry.gid = parse_decimal(value, "gid")
    if xattrs:
        entry.xattrs = xattrs
