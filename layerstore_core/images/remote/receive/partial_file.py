"""Files of blobs that are being downloaded, or were when a process ended: `<root>/layerstore/downloads/<digest>`.

The file has the bytes of the blob at their places, and after them, at the offset of the blob's size, a table of the
ranges that are there::

    8 bytes     "LSRANGES"
    4 bytes     the number of ranges, little-endian, as all numbers
    4 bytes     the CRC-32 of the ranges
    16 bytes    each range: its first byte, and the one after its last

Bytes are written before the table says so. Therefore a process that is killed leaves a file from which another one can
go on. After a power cut the table may say too much; the digest of the blob, which every reader compares, shows that.
A file without a valid table has no bytes.

A process that writes such a file has it locked (fcntl(2), "Open file description locks"), until it is complete: then
others may read it, too. A file may be removed by the one who has its lock, or if it is complete. Who has opened it by
then can still use it, if it is complete.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.base.descriptors import Descriptor
from layerstore_core.errors import BadRecord
from layerstore_core.locking.file_locks import try_lock, unlock

#: The most ranges of one file. Neighbours are joined.
MAX_RANGES: Final = 64
_MAGIC: Final = b"LSRANGES"
_HEADER: Final = struct.Struct("<8sII")
_RANGE: Final = struct.Struct("<QQ")


class PartialFile:
    """The file of one blob. It is not thread-safe, but for `read_at` and `write_at`.

    Args:
        path: its path.
        size: the size of the blob, in bytes.

    Attributes:
        path: its path. Another file may be there by now, or none.
        ranges: the ranges that are there, sorted, not overlapping; empty until it is locked.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.ranges: list[tuple[int, int]] = []
        self._descriptor: Descriptor | None = None

    def try_lock(self) -> bool:
        """Open the file, which is made if it is missing, and lock it; return `False` if it is locked elsewhere.

        A complete file does not stay locked.

        A file that was removed while this object waited for its lock is used if it is complete; otherwise a new one is
        made.

        Raises:
            BadRecord: it is not a regular file.
            OSError: it cannot be made.
        """
        while True:
            if self._descriptor is None:
                make_directory(self.path.parent, 0o700)
                self._descriptor = inside.open_file(self.path, os.O_RDWR | os.O_CREAT, 0o600)
                self._descriptor.close_in_children()
            if not try_lock(self._descriptor.number):
                return False
            self.ranges = read_table(self._fd, self.size) or []
            if self.complete:
                unlock(self._fd)
                return True
            if is_at(self._fd, self.path):
                return True
            self.close()

    @property
    def _fd(self) -> int:
        return -1 if self._descriptor is None else self._descriptor.number

    @property
    def received(self) -> int:
        """How many bytes of the blob are there."""
        return sum(end - start for start, end in self.ranges)

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self.received == self.size

    def end_of(self, position: int) -> int:
        """Return how far the bytes from a position on are there: the position itself if its byte is not."""
        number = bisect_right(self.ranges, (position, self.size + 1)) - 1
        return max(position, self.ranges[number][1]) if number >= 0 else position

    def gaps(self) -> list[tuple[int, int]]:
        """Return the ranges that are not there."""
        found, position = [], 0
        for start, end in [*self.ranges, (self.size, self.size)]:
            if position < start:
                found.append((position, start))
            position = end
        return found

    def read_at(self, position: int, count: int) -> bytes:
        """Read bytes that are there.

        Raises:
            OSError: they cannot be read, or the file was cut off.
        """
        data = os.pread(self._fd, count, position)
        if not data:
            raise OSError(errno.EIO, "the file was cut off while it was read", str(self.path))
        return data

    def write_at(self, position: int, data: bytes | memoryview) -> None:
        """Write bytes; `add` then says that they are there.

        Raises:
            OSError: they cannot be written.
        """
        piece = memoryview(data)
        while piece:
            count = os.pwrite(self._fd, piece, position)
            piece = piece[count:]
            position += count

    def add(self, start: int, end: int) -> None:
        """Record that a range was written. A file that is complete now is not locked any more.

        Raises:
            OSError: the table cannot be written.
        """
        joined: list[tuple[int, int]] = []
        for one in sorted([*self.ranges, (start, end)]):
            if joined and one[0] <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(one[1], joined[-1][1]))
            else:
                joined.append(one)
        if len(joined) <= MAX_RANGES:  # otherwise it is downloaded again some time
            self.ranges = joined
            self._write_table()
            if self.complete:
                unlock(self._fd)

    @property
    def resting(self) -> bool:
        """Whether the file is closed for now; see `rest`."""
        return self._descriptor is None and bool(self.ranges)

    def rest(self) -> None:
        """Close the file, which is complete, until `wake` is called: it needs no descriptor meanwhile."""
        if self._descriptor is not None and self.ranges:
            self._descriptor.close()
            self._descriptor = None

    def wake(self) -> None:
        """Open a resting file again.

        Raises:
            OSError: it was removed, or is not complete any more.
            BadRecord: another kind of file is in its place.
        """
        if self.resting:
            removed = OSError(
                errno.ESTALE, "another process has removed what was received; pull again", str(self.path.parent)
            )
            try:
                descriptor = inside.open_file(self.path, os.O_RDWR)
            except FileNotFoundError:
                raise removed from None
            descriptor.close_in_children()
            if read_table(descriptor.number, self.size) != self.ranges:
                descriptor.close()
                raise removed
            self._descriptor = descriptor

    def awake(self) -> bool:
        """Return whether the file is open; one that rests is opened again, if that can be."""
        try:
            self.wake()
        except (BadRecord, OSError):
            return False
        return self._descriptor is not None

    def in_place(self) -> bool:
        """Return whether the file, complete or not, still has its path. One that rests is opened again."""
        return self.awake() and is_at(self._fd, self.path)

    def move(self, target: Path) -> None:
        """Move the file, which is complete, to another path, without its table. It can still be read.

        Args:
            target: the path, on the same file system.

        Raises:
            OSError: it cannot be moved.
        """
        self.wake()
        inside.rename(self.path, target)
        if not is_at(self._fd, target):  # another process has removed ours, and begun a new one
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self.path))
        os.ftruncate(self._fd, self.size)

    def remove(self) -> None:
        """Remove the file, unless another one is in its place, and close it.

        Raises:
            OSError: it cannot be removed.
        """
        try:
            self.unlink()
        finally:
            self.close()

    def unlink(self) -> None:
        """Remove the file, unless another one is in its place. It stays open, and what writes to it may do so.

        Raises:
            OSError: it cannot be removed.
        """
        if self.in_place():
            inside.unlink(self.path, missing_ok=True)

    def close(self) -> None:
        """Close the file, and so release its lock. A second call does nothing."""
        if self._descriptor is not None:
            self._descriptor.close()
            self._descriptor = None
        self.ranges = []

    def _write_table(self) -> None:
        ranges = b"".join(_RANGE.pack(*one) for one in self.ranges)
        self.write_at(self.size, _HEADER.pack(_MAGIC, len(self.ranges), zlib.crc32(ranges)) + ranges)


def read_table(fd: int, size: int) -> list[tuple[int, int]] | None:
    """Read the table of ranges in a file; return `None` if there is no valid one.

    Args:
        fd: the file.
        size: the size of the blob, in bytes: the place of the table.
    """
    data = os.pread(fd, _HEADER.size + MAX_RANGES * _RANGE.size, size)
    if len(data) < _HEADER.size:
        return None
    magic, count, check = _HEADER.unpack_from(data)
    table = data[_HEADER.size : _HEADER.size + count * _RANGE.size]
    if magic != _MAGIC or len(table) < count * _RANGE.size or zlib.crc32(table) != check:
        return None
    ranges = list(_RANGE.iter_unpack(table))
    places = [0, *(place for one in ranges for place in one), size]
    return ranges if all(before <= after for before, after in pairwise(places)) else None


def is_at(fd: int, path: Path) -> bool:
    """Return whether an open file is the one that has this path."""
    own = os.fstat(fd)
    try:
        there = inside.status(path)
    except FileNotFoundError:
        return False
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)
