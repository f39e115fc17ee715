"""What a comparison notes for later: directories to compare, and names of hard-linked files."""

from __future__ import annotations

from typing import NamedTuple


class Directory(NamedTuple):
    """Directory of the upper tree that is to be compared."""

    path: bytes
    #: The lower tree has a directory of this path.
    in_lower: bool
    #: No name in it was added or removed since the stamps were taken.
    untouched: bool
    #: It has the same inode number as the lower tree's directory, so `touched` says what has changed in it.
    guided: bool = False
    #: Its attributes were not yet compared with the lower tree's. That is done when both directories are open.
    unread: bool = False


class Name(NamedTuple):
    """Name of a file that has several names in the upper or the lower tree."""

    path: bytes
    upper: tuple[int, int]
    lower: tuple[int, int] | None
