"""Extents of sparse files: the parts with data, and the holes between them; reading a file that must not change."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Final

_CHUNK: Final = 1 << 20


def may_have_holes(status: os.stat_result) -> bool:
    """Return whether a file takes less space than its length, so that searching for holes is worthwhile."""
    return status.st_blocks * 512 < status.st_size


def next_data(fd: int, offset: int, size: int) -> int:
    """Return the offset of the first data at or after `offset`; `size` if only a hole follows.

    A file system that does not support holes reports everything as data.
    """
    try:
        return min(os.lseek(fd, offset, os.SEEK_DATA), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise


def data_extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the extents `(offset, length)` with data of an open file, ascending, up to `size`."""
    offset = 0
    while (start := next_data(fd, offset, size)) < size:
        offset = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        yield start, offset - start


def copy_extents(source: int, target: int, status: os.stat_result) -> None:
    """Copy the data of an open file into an open, empty file; the gaps between its extents stay holes.

    Args:
        source: a descriptor to read from.
        target: a descriptor to write to.
        status: the status of the source.

    Raises:
        OSError: something cannot be read or written.
    """
    for offset, length in data_extents(source, status.st_size):
        copy_extent(source, target, offset, length)
    os.ftruncate(target, status.st_size)


def copy_extent(source: int, target: int, offset: int, length: int) -> None:
    """Copy `length` bytes at `offset` of an open file to the same offset in another; fewer if the source ends."""
    while length:
        data = os.pread(source, min(length, _CHUNK), offset)
        if not data:
            break
        written = os.pwrite(target, data, offset)
        offset += written
        length -= written


def change_stamp(status: os.stat_result) -> tuple[int, int, int]:
    """Return values that change when a file is written to; the ctime does even if size and mtime are restored."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def file_content(fd: int, status: os.stat_result) -> Iterator[bytes]:
    """Yield a file's content, with zeros for holes, which are not read; an empty chunk if the file ends too early."""
    size = status.st_size
    extents: Iterable[tuple[int, int]] = data_extents(fd, size) if may_have_holes(status) else ((0, size),)
    offset = 0
    for start, length in extents:
        yield from zeros(start - offset)
        offset = start
        end = start + length
        while offset < end:
            chunk = os.pread(fd, min(_CHUNK, end - offset), offset)
            yield chunk
            offset += len(chunk)
    yield from zeros(size - offset)


def zeros(count: int) -> Iterator[bytes]:
    """Yield `count` bytes of zeros, in chunks."""
    chunk = bytes(min(count, _CHUNK))
    while count > 0:
        yield chunk[:count]
        count -= _CHUNK
