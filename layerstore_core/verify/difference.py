"""A difference between a layer's files and what they should be, and how it is described."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

#: The types of files in words, by `stat.S_IFMT`.
TYPE_NAMES: Final[Mapping[int, str]] = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a fifo",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}
_SECOND: Final = 1_000_000_000


class Difference(NamedTuple):
    """A file of a layer that is not as it should be.

    Attributes:
        path: its path in the layer, relative; the root is empty.
        what: what is wrong, as the rest of a sentence that begins with the path.
        inherited: the file should be as in the parent's tree; the layer's tar does not describe it.
        source: its path in the parent's tree, if that is another path.
    """

    path: bytes
    what: str
    inherited: bool = False
    source: bytes = b""

    def __str__(self) -> str:
        return f"{os.fsdecode(b'/' + self.path)!r} {self.what}"


def describe_differences(differences: Sequence[Difference], most: int = 20) -> str:
    """Return the first `most` differences as one sentence, and how many more there are."""
    listed = "; ".join(map(str, differences[:most]))
    more = len(differences) - most
    return f"{listed}; and {more} more" if more > 0 else listed


def device_text(number: int) -> str:
    """Return a device number as `major:minor`."""
    return f"{os.major(number)}:{os.minor(number)}"


def time_text(ns: int) -> str:
    """Return a time in nanoseconds as seconds with nine decimal places."""
    return f"{ns // _SECOND}.{ns % _SECOND:09d}"
