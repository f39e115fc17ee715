"""The files that the contents in an assembled tar came from."""

from __future__ import annotations

import os
from collections import deque

#: A file as it was when it was read: device, inode, and the time of its last change in nanoseconds. No file has the
#: same again once it was changed.
Source = tuple[int, int, int]


class Sources:
    """The files that the contents in a tar came from, by place, while the tar is assembled and read at the same time.

    A content that is known to come from a file needs no comparison with that file.
    """

    def __init__(self) -> None:
        self._found: deque[tuple[int, Source]] = deque()

    def add(self, offset: int, numbers: memoryview) -> None:
        """Add the files of the next part of the tar.

        Args:
            offset: where the part begins.
            numbers: four for each content: where it begins in the part, and the file's device, inode and time of
                change, all 0 where it came from no file.
        """
        found = iter(numbers)
        for position, device, inode, changed in zip(found, found, found, found, strict=True):
            if inode:
                self._found.append((offset + position, (device, inode, changed)))

    def at(self, offset: int) -> Source | None:
        """Return the file of the content that begins at a place. The places ascend from call to call."""
        while self._found and self._found[0][0] <= offset:
            place, source = self._found.popleft()
            if place == offset:
                return source
        return None


def source_of(status: os.stat_result) -> Source:
    """Return what a file is as a source."""
    return status.st_dev, status.st_ino, status.st_ctime_ns
