"""One tar header block of 512 bytes: v7, ustar, GNU and star.

Field layout: POSIX.1-2017, `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
Where writers are known to be sloppy, what Go's `archive/tar` (Docker's reader) or GNU tar accept
is accepted, since their users have such layers.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final
from zlib import adler32

from layerstore_core.tar.entry import NO_XATTRS, EntryType, TarEntry

BLOCK: Final = 512
ZERO_BLOCK: Final = bytes(BLOCK)
#: Longest name that an entry may have: what the kernel takes for a path, less its NUL.
MAX_NAME: Final = 4095

_TYPES: Final = {
    b"0": EntryType.FILE,
    b"\0": EntryType.FILE,
    b"7": EntryType.FILE,  # contiguous file: a plain one, but for where it lies on disk
    b"S": EntryType.FILE,  # GNU sparse file
    b"1": EntryType.HARDLINK,
    b"2": EntryType.SYMLINK,
    b"3": EntryType.CHAR,
    b"4": EntryType.BLOCK,
    b"5": EntryType.DIR,
    b"D": EntryType.DIR,  # GNU incremental: a directory with a list of names as payload
    b"6": EntryType.FIFO,
    b"g": EntryType.GLOBAL,
    b"V": EntryType.VOLUME,
    b"M": EntryType.VOLUME,
}
#: Types whose size field says nothing about a payload, with most writers.
HEADER_ONLY: Final = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})


#: What follows the digits and their end is ignored, as GNU tar does: old writers left something there.
_OCTAL: Final = re.compile(rb"[ \0]*([0-7]+)(?=[ \0]|\Z)")


#: What `parse_common_header` looks at: name; mode, uid and gid; size and mtime, each with what ends it; the
#: checksum; type; link name; magic and version; prefix; star's magic.
_COMMON_FIELDS: Final = Struct("100s24s11s1s11s1s8s1s100s8s80x155s8x4s")
_COMMON_TYPES: Final = {flag: _TYPES.get(flag, EntryType.FILE) for flag in (b"0", b"1", b"2", b"5", b"x", b"L", b"K")}
_END_OF_NUMBER: Final = (b"\0", b" ")
#: Modes and owners by the 24 bytes that say them: of these a tar has few.
_owners: Final[dict[bytes, tuple[int, int, int]]] = {}
_MAX_OWNERS: Final = 1024


class HeaderError(ValueError):
    """The block is no tar header; the text says why."""


def is_header(block: bytes) -> bool:
    """Whether the block's checksum is right, which is what tells a header from file content."""
    stored = _OCTAL.match(block, 148, 156)
    if stored is None:
        return False
    checksum = int(stored[1], 8)
    # The checksum counts its own eight bytes as spaces.
    unsigned = sum(block) - sum(block[148:156]) + 8 * 0x20
    if unsigned == checksum:
        return True
    # Some early writers summed signed characters.
    return unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:]) == checksum


def parse_number(field: bytes) -> int:
    """A numeric field: octal digits, or base-256 in two's complement where its top bit is set.

    Raises:
        HeaderError: it is neither, or does not fit 64 bits.
    """
    if field[0] & 0x80:
        # The top bit marks the encoding; the next one is the sign.
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        if not -(1 << 63) <= value < 1 << 63:
            raise HeaderError("a number in the header does not fit 64 bits")
        return value
    digits = _OCTAL.match(field)
    if digits is not None:
        return int(digits[1], 8)
    if not field.strip(b" \0"):
        return 0
    raise HeaderError(f"{bytes(field)!r} stands where an octal number is expected")


def parse_string(field: bytes) -> bytes:
    """A text field: what stands before its first NUL, or all of it."""
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def parse_header(block: bytes, offset: int) -> TarEntry:
    """Read a header block.

    Args:
        block: 512 bytes.
        offset: where it stands in the tar, in bytes; kept in the entry.

    Returns:
        The entry as this one block tells it. `size` and `stored_size` both hold the size field;
        extended headers, sparse maps and header-only types are the scanner's business.

    Raises:
        HeaderError: the checksum or a number is wrong.
    """
    if not is_header(block):
        raise HeaderError("the checksum of the header is wrong")
    typeflag = block[156:157]
    name = parse_string(block[0:100])
    size = parse_number(block[124:136])
    entry = TarEntry(
        name=name,
        type=_TYPES.get(typeflag, EntryType.FILE),  # POSIX: unknown types are regular files
        mode=parse_number(block[100:108]) & 0o7777,
        uid=parse_number(block[108:116]),
        gid=parse_number(block[116:124]),
        size=size,
        mtime_ns=parse_number(block[136:148]) * 1_000_000_000,
        linkname=parse_string(block[157:257]),
        typeflag=typeflag,
        stored_size=size,
        offset=offset,
    )
    if size < 0:
        raise HeaderError("the size in the header is negative")
    magic = block[257:263]
    if magic == b"ustar\0":
        is_star = block[508:512] == b"tar\0"
        prefix = parse_string(block[345:476] if is_star else block[345:500])
    elif block[257:265] == b"ustar  \0":
        prefix = _prefix_of_old_go_writers(block)
    else:
        return entry  # v7: no devices, no prefix
    if prefix:
        entry.name = prefix + b"/" + name
    if entry.type in (EntryType.CHAR, EntryType.BLOCK):
        entry.devmajor = parse_number(block[329:337])
        entry.devminor = parse_number(block[337:345])
    return entry


def parse_common_header(block: bytes, offset: int) -> TarEntry | None:
    """What `parse_header` gives, many times faster, of a header as nearly all are; `None` of any other.

    Such a header is ASCII, ustar's or GNU's, of no device, and has size, time and checksum in full width.
    """
    if not block.isascii():
        return None
    fields = _COMMON_FIELDS.unpack(block)
    name, ids, size_digits, size_end, time_digits, time_end, checksum, flag, linkname, magic, prefix, star = fields
    kind = _COMMON_TYPES.get(flag)
    if kind is None or size_end not in _END_OF_NUMBER or time_end not in _END_OF_NUMBER or star == b"tar\0":
        return None
    sum_digits = checksum[:6]
    # int() would take signs, spaces and underscores too.
    if checksum[6] not in b"\0 " or not (size_digits + time_digits + sum_digits).isdigit():
        return None
    try:
        # The lower half of Adler-32 is one more than the sum of the bytes, modulo 65521, which 512 of ASCII do not reach.
        # The checksum counts its own eight bytes as spaces.
        if (adler32(block) & 0xFFFF) - (adler32(checksum) & 0xFFFF) + 8 * 0x20 != int(sum_digits, 8):
            return None
        owner = _owners.get(ids)
        if owner is None:
            if len(_owners) >= _MAX_OWNERS:
                _owners.clear()
            owner = parse_number(ids[:8]) & 0o7777, parse_number(ids[8:16]), parse_number(ids[16:])
            _owners[ids] = owner
        size, mtime = int(size_digits, 8), int(time_digits, 8) * 1_000_000_000
    except ValueError:  # a digit that is not octal
        return None
    name = name.split(b"\0", 1)[0]
    if prefix[0]:
        if magic != b"ustar\x0000":
            return None
        name = parse_string(prefix) + b"/" + name
    elif magic != b"ustar\x0000" and (magic != b"ustar  \0" or prefix[12]):
        return None
    linkname = parse_string(linkname) if linkname[0] else b""
    return TarEntry(
        name, kind, owner[0], owner[1], owner[2], size, mtime, linkname, 0, 0, NO_XATTRS, None, flag, size, offset
    )


def is_known_type(typeflag: bytes) -> bool:
    """Whether the type flag is one that some tar dialect defines for file system objects."""
    return typeflag in _TYPES


def _prefix_of_old_go_writers(block: bytes) -> bytes:
    """The name prefix in a GNU header, which has none, except from Go before 1.8 (golang.org/issue/12594).

    GNU keeps two times where ustar has its prefix. Where these are no numbers but text, it is the prefix.
    """
    for field in (block[345:357], block[357:369]):
        if field[0]:
            try:
                parse_number(field)
            except HeaderError:
                prefix = parse_string(block[345:500])
                return prefix if prefix.isascii() else b""
    return b""
