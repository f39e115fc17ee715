"""Changes: what has happened to a path, and the paths that a file system knows to have been touched."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class ChangeKind(Enum):
    """What has happened to a path; the values are Docker's letters."""

    ADD = "A"
    MODIFY = "C"
    DELETE = "D"


@dataclass(frozen=True, slots=True)
class Change:
    """One changed path.

    Attributes:
        path: absolute within the layer, as `b"/etc/hosts"`.
        kind: what has happened to it.
    """

    path: bytes
    kind: ChangeKind

    def __str__(self) -> str:
        return f"{self.kind.value} {os.fsdecode(self.path)}"


class TouchedPaths:
    """The paths of a tree that may differ from what they were in the tree that it began as.

    Args:
        paths: as in `Change`. Whatever is not the file that it was, or not as it was, must be there, under
            each of its names: files that changed, came, were linked, renamed or moved; directories in
            which a name came or went; `b"/"` for the root. Of a directory that was moved, what is in it
            need not be there, but for files with further names, which must be there under all of them.
    """

    def __init__(self, paths: Iterable[bytes]) -> None:
        self._paths = {path.strip(b"/") for path in paths}
        self._names: dict[bytes, set[str]] = defaultdict(set)
        for path in self._paths:
            below = path
            while below:
                directory, _, base = below.rpartition(b"/")
                name = os.fsdecode(base)
                if name in self._names[directory]:
                    break
                self._names[directory].add(name)
                below = directory

    def __contains__(self, path: bytes) -> bool:
        """Whether `path`, relative to the root of the tree, is one of the touched."""
        return path in self._paths

    def names_in(self, directory: bytes) -> set[str]:
        """The names in a directory, by its path relative to the root, at or below which something was touched."""
        return set(self._names.get(directory, ()))
