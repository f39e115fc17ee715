"""The entries of a table of contents: what a tar's headers say of files, and where their contents are."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import NO_XATTRS, EntryType, TarEntry
from layerstore_core.tar.header import MAX_NAME

_TYPES: Final = {
    "reg": (EntryType.FILE, b"0"),
    "hardlink": (EntryType.HARDLINK, b"1"),
    "symlink": (EntryType.SYMLINK, b"2"),
    "char": (EntryType.CHAR, b"3"),
    "block": (EntryType.BLOCK, b"4"),
    "dir": (EntryType.DIR, b"5"),
    "fifo": (EntryType.FIFO, b"6"),
}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX: Final = 1 << 62


def number(item: Mapping[str, Any], key: str, least: int = 0) -> int:
    """Return a number of an entry, which is 0 if it is left out.

    Raises:
        InvalidLayer: it is no number, less than `least`, or too large.
    """
    found = item.get(key)
    if found is None:
        return 0
    if type(found) is not int or not least <= found < _MAX:
        raise _invalid(item, f"{key} is {str(found)[:40]!r}")
    return found


def digest(item: Mapping[str, Any], key: str) -> bytes | None:
    """Return a sha256 of an entry as bytes; `None` if it is left out.

    Raises:
        InvalidLayer: it is something else.
    """
    found = item.get(key)
    if found is None or found == "":
        return None
    if not isinstance(found, str) or not _SHA256.fullmatch(found):
        raise _invalid(item, f"{key} is {str(found)[:100]!r}, and no sha256")
    return bytes.fromhex(found[7:])


def name_of(item: Mapping[str, Any], key: str = "name") -> bytes:
    """Return a name of an entry as bytes; empty if it is left out.

    Raises:
        InvalidLayer: it cannot be the name of a file.
    """
    found = item.get(key) or ""
    if not isinstance(found, str):
        raise _invalid(item, f"{key} is no text")
    try:
        name = found.encode()
    except UnicodeEncodeError:
        raise _invalid(item, f"{key} has half a character") from None
    if len(name) > MAX_NAME or b"\0" in name:
        raise _invalid(item, f"{key} cannot be the name of a file")
    return name


def entry_of(item: Mapping[str, Any], max_size: int) -> TarEntry:
    """Return the tar entry that an entry of a table stands for. Names are checked as those of a tar: by who uses them.

    Args:
        item: the entry; it is no chunk.
        max_size: the largest size of a file in bytes.

    Raises:
        InvalidLayer: it is invalid. The message says why.
    """
    kind, flag = _TYPES.get(str(item.get("type")), (None, b""))
    if kind is None:
        raise _invalid(item, f"its type is {str(item.get('type'))[:40]!r}")
    size = number(item, "size") if kind is EntryType.FILE else 0
    if size > max_size:
        raise _invalid(item, f"its size is {size} bytes, and the limit is {max_size}")
    entry = TarEntry(
        name_of(item),
        kind,
        number(item, "mode") & 0o7777,
        number(item, "uid", -_MAX),
        number(item, "gid", -_MAX),
        size,
        _time(item),
        name_of(item, "linkName"),
        number(item, "devMajor"),
        number(item, "devMinor"),
    )
    entry.typeflag, entry.stored_size = flag, size
    if attributes := item.get("xattrs"):
        entry.xattrs = _xattrs(item, attributes)
    return entry


def _xattrs(item: Mapping[str, Any], attributes: Any) -> Mapping[bytes, bytes]:
    try:
        found = {name.encode(): base64.b64decode(value or "", validate=True) for name, value in attributes.items()}
    except (AttributeError, TypeError, ValueError, binascii.Error):
        raise _invalid(item, "its extended attributes are not in base64") from None
    if any(b"\0" in name for name in found):
        raise _invalid(item, "the name of an extended attribute has a NUL")
    return found or NO_XATTRS


def _time(item: Mapping[str, Any]) -> int:
    found = item.get("modtime")
    if not found:
        return 0
    time = _nanoseconds(found) if isinstance(found, str) else None
    if time is None:
        raise _invalid(item, f"its time is {str(found)[:60]!r}")
    return time


@lru_cache(1024)
def _nanoseconds(text: str) -> int | None:
    """Return a time of RFC 3339 in nanoseconds; `None` if the text is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    seconds, fraction, zone = match.groups()
    try:
        passed = datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone)) - _EPOCH
    except ValueError:
        return None
    return (passed.days * 86400 + passed.seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def _invalid(item: Mapping[str, Any], reason: str) -> InvalidLayer:
    name = item.get("name")
    shown = name[:200].encode(errors="backslashreplace") if isinstance(name, str) else b"?"
    return InvalidLayer(f"the table of contents is wrong: {reason}", entry=shown)
