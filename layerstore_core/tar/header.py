"""One tar header block of 512 bytes: v7, ustar, GNU and star.

Field layout: POSIX.1-2017, `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
Some writers are known to break the format. What Go's `archive/tar` (Docker's reader) or GNU tar accepts is accepted
here too, because their users have such layers.
"""

from __future__ import annotations

import re
from typing import Final

from layerstore_core.tar.entry import EntryType, TarEntry

BLOCK: Final = 512
ZERO_BLOCK: Final = bytes(BLOCK)
#: Longest name that an entry may have, in bytes: the kernel's limit for a path, without its NUL.
MAX_NAME: Final = 4095

_TYPES: Final = {
    b"0": EntryType.FILE,
    b"\0": EntryType.FILE,
    b"7": EntryType.FILE,  # contiguous file: a regular file, except for its place on disk
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
#: Types that have no payload, whatever their size field says, with most writers.
HEADER_ONLY: Final = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})


#: Bytes after the digits and their terminator are ignored, as by GNU tar: old writers left garbage there.
_OCTAL: Final = re.compile(rb"[ \0]*([0-7]+)(?=[ \0]|\Z)")


class HeaderError(ValueError):
    """The block is not a tar header; the message says why."""


def is_header(block: bytes) -> bool:
    """Return whether the block's checksum is right. That distinguishes a header from file content."""
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
    """Read a numeric field: octal digits, or base-256 in two's complement if the top bit is set.

    Raises:
        HeaderError: the field is neither, or its number does not fit 64 bits.
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
    raise HeaderError(f"expected an octal number, found {bytes(field)!r}")


def parse_string(field: bytes) -> bytes:
    """Read a text field: the bytes before its first NUL, or the whole field."""
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def parse_header(block: bytes, offset: int) -> TarEntry:
    """Read a header block.

    Args:
        block: 512 bytes.
        offset: the position of the block in the tar, in bytes. It is stored in the entry.

    Returns:
        The entry that this block alone describes. `size` and `stored_size` are both the size field.
        The scanner handles extended headers, sparse maps and header-only types.

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
        return entry  # v7: neither device numbers nor a prefix
    if prefix:
        entry.name = prefix + b"/" + name
    if entry.type in (EntryType.CHAR, EntryType.BLOCK):
        entry.devmajor = parse_number(block[329:337])
        entry.devminor = parse_number(block[337:345])
    return entry


def is_known_type(typeflag: bytes) -> bool:
    """Return whether some tar dialect defines this type flag for file system objects."""
    return typeflag in _TYPES


def _prefix_of_old_go_writers(block: bytes) -> bytes:
    """Return the name prefix in a GNU header of Go before 1.8 (golang.org/issue/12594), else an empty one.

    A GNU header has no prefix: it has two times at ustar's place for the prefix. If these are not numbers but text, the
    text is the prefix.
    """
    for field in (block[345:357], block[357:369]):
        if field[0]:
            try:
                parse_number(field)
            except HeaderError:
                prefix = parse_string(block[345:500])
                return prefix if prefix.isascii() else b""
    return b""
