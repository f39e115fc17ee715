"""Where a file has data, and where holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

_CHUNK: Final = 1 << 20


def may_have_holes(status: os.stat_result) -> bool:
    """Whether a file takes less space than its length, so that looking for holes is worth it."""
    return status.st_blocks * 512 < status.st_size


def next_data(fd: int, offset: int, size: int) -> int:
    """The offset of the first data at or after `offset`; `size` where only a hole follows.

    A file system that does not know of holes calls all of it data.
    """
    try:
        return min(os.lseek(fd, offset, os.SEEK_DATA), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise


def data_extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The extents `(offset, length)` of an open file that hold data, ascending, up to `size`."""
    offset = 0
    while (start := next_data(fd, offset, size)) < size:
        offset = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        yield start, offset - start


def copy_extents(source: int, target: int, status: os.stat_result) -> None:
    """Copy the data of an open file into an open, empty one; between them stay holes.

    Args:
        source: a descriptor to read from.
        target: a descriptor to write to.
        status: the source's.

    Raises:
        OSError: something cannot be read or written.
    """
    for offset, length in data_extents(source, status.st_size):
        copy_extent(source, target, offset, length)
    os.ftruncate(target, status.st_size)


def copy_extent(source: int, target: int, offset: int, length: int) -> None:
    """Copy `length` bytes from `offset` on of one open file to the same place in another; less where the source ends."""
    while length:
        data = os.pread(source, min(length, _CHUNK), offset)
        if not data:
            break
        written = os.pwrite(target, data, offset)
        offset += written
        length -= written
