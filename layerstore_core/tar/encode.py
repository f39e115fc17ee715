"""Encoding tar headers: ustar, with a PAX extended header before it if ustar cannot represent a value.

Format: POSIX.1-2017, `pax`. Equal entries give equal bytes: there are no user or group names, no access or change
times, and the records are sorted. A name that is not UTF-8 is written as it is: in the ustar header if it fits, else in
a PAX `path` record. POSIX forbids the latter. But Go's `archive/tar` (Docker), GNU tar and Python read both back
exactly, while they warn about POSIX's `hdrcharset`, or do not know it.
"""

from __future__ import annotations

from typing import Final

from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import BLOCK
from layerstore_core.tar.pax import xattr_key

#: The end marker of an archive.
END_OF_ARCHIVE: Final = bytes(2 * BLOCK)

_FLAGS: Final = {
    EntryType.FILE: b"0",
    EntryType.HARDLINK: b"1",
    EntryType.SYMLINK: b"2",
    EntryType.CHAR: b"3",
    EntryType.BLOCK: b"4",
    EntryType.DIR: b"5",
    EntryType.FIFO: b"6",
}
_NAME_SIZE: Final = 100
_PREFIX_SIZE: Final = 155
#: The largest numbers in octal fields of seven and of eleven digits.
_MAX_SHORT: Final = 0o7777777
_MAX_LONG: Final = 0o77777777777
_SECOND: Final = 1_000_000_000
_PAX_NAME: Final = b"PaxHeaders.0/entry"


def padding(size: int) -> bytes:
    """Return the zeros that follow a payload of `size` bytes."""
    return bytes(-size % BLOCK)


def encode_header(entry: TarEntry) -> bytes:
    """Return the header blocks of an entry. For a file, the payload of `entry.size` bytes must follow them.

    Args:
        entry: the entry. Its `name` (with a slash at the end for a directory), `type`, `mode`, `uid`, `gid`, `size`,
            `mtime_ns`, `linkname`, `devmajor`, `devminor` and `xattrs` are used.
    """
    records: dict[bytes, bytes] = {}
    name, prefix = _split_name(entry.name)
    if not name or not (entry.name.isascii() or _is_not_utf8(entry.name)):
        records[b"path"] = entry.name
        name, prefix = entry.name[:_NAME_SIZE], b""
    linkname = entry.linkname
    if len(linkname) > _NAME_SIZE or not (linkname.isascii() or _is_not_utf8(linkname)):
        records[b"linkpath"] = linkname
        linkname = linkname[:_NAME_SIZE]
    uid, gid, size = entry.uid, entry.gid, entry.size
    if uid > _MAX_SHORT:
        records[b"uid"], uid = b"%d" % uid, 0
    if gid > _MAX_SHORT:
        records[b"gid"], gid = b"%d" % gid, 0
    if size > _MAX_LONG:
        records[b"size"], size = b"%d" % size, 0
    seconds, fraction = divmod(entry.mtime_ns, _SECOND)
    if fraction or not 0 <= seconds <= _MAX_LONG:
        records[b"mtime"] = _format_time(entry.mtime_ns)
        seconds = min(max(seconds, 0), _MAX_LONG)
    for key, value in entry.xattrs.items():
        records[xattr_key(key)] = value
    block = _block(
        name, entry.mode, uid, gid, size, seconds, _FLAGS[entry.type], linkname, entry.devmajor, entry.devminor, prefix
    )
    if not records:
        return block
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    return _block(_PAX_NAME, 0, 0, 0, len(data), 0, b"x") + data + padding(len(data)) + block


def _block(  # noqa: PLR0917 - the fields of a header, in their order
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    seconds: int,
    flag: bytes,
    linkname: bytes = b"",
    devmajor: int = 0,
    devminor: int = 0,
    prefix: bytes = b"",
) -> bytes:
    start = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(_NAME_SIZE, b"\0"), mode, uid, gid, size, seconds)
    end = b"%b%bustar\00000%b%07o\0%07o\0%b" % (
        flag,
        linkname.ljust(_NAME_SIZE, b"\0"),
        bytes(64),  # names of the user and the group
        devmajor,
        devminor,
        prefix.ljust(_PREFIX_SIZE + 12, b"\0"),
    )
    # The checksum counts its own eight bytes as spaces.
    return b"%b%06o\0 %b" % (start, sum(start) + sum(end) + 8 * 0x20, end)


def _split_name(name: bytes) -> tuple[bytes, bytes]:
    """Split a name into ustar's name and prefix; return two empty strings if it does not fit."""
    if len(name) <= _NAME_SIZE:
        return name, b""
    # The slash at the end of a directory's name is no place to split.
    at = name.rfind(b"/", 0, min(len(name) - 1, _PREFIX_SIZE + 1))
    if at <= 0 or len(name) - at - 1 > _NAME_SIZE:
        return b"", b""
    return name[at + 1 :], name[:at]


def _is_not_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return True
    return False


def _format_time(time_ns: int) -> bytes:
    seconds, fraction = divmod(abs(time_ns), _SECOND)
    text = b"-%d" % seconds if time_ns < 0 else b"%d" % seconds
    return text + (b".%09d" % fraction).rstrip(b"0") if fraction else text


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%b" % (length, rest)
