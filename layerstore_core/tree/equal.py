"""Comparisons of two files: by their status or by their content."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from layerstore_core.tree.extents import next_data
from layerstore_core.tree.xattrs import read_xattrs

#: How much of two files is compared at a time, in bytes.
_CHUNK: Final = 1 << 18


def same_status(one: os.stat_result, other: os.stat_result) -> bool:
    """Return whether two files have the same status. If so, content and attributes decide whether they are equal."""
    return (
        one.st_mode == other.st_mode
        and one.st_uid == other.st_uid
        and one.st_gid == other.st_gid
        and one.st_rdev == other.st_rdev
        and (stat.S_ISDIR(one.st_mode) or (one.st_mtime_ns == other.st_mtime_ns and one.st_size == other.st_size))
    )


def is_new_root(fd: int, owner: tuple[int, int]) -> bool:
    """Return whether an open directory has the metadata of a new base layer's root.

    Args:
        fd: the directory.
        owner: user and group of the layer's root user on this host.
    """
    status = os.fstat(fd)
    is_plain = stat.S_IMODE(status.st_mode) == 0o755 and (status.st_uid, status.st_gid) == owner
    return is_plain and not read_xattrs(fd)


def same_content(one: int, other: int, size: int, sparse: bool) -> bool:
    """Return whether two open files of `size` bytes have the same content. If `sparse`, common holes are not read."""
    if 0 < size <= _CHUNK and not sparse:
        data = os.pread(one, size, 0)
        if len(data) == size:
            return data == os.pread(other, size, 0)
    offset = 0
    while offset < size:
        if sparse:
            offset = min(next_data(one, offset, size), next_data(other, offset, size))
        count = min(_CHUNK, size - offset)
        if not count:
            break
        data = os.pread(one, count, offset)
        if data != os.pread(other, count, offset):
            return False
        if not data:
            raise OSError(errno.ESTALE, "a file was truncated while it was compared")
        offset += len(data)
    return True
