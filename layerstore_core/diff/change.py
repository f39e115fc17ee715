"""Changes of paths, and the paths that a file system has recorded as touched."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class ChangeKind(Enum):
    """Kind of a change; the values are Docker's letters."""

    ADD = "A"
    MODIFY = "C"
    DELETE = "D"


class Change(NamedTuple):
    """Changed path.

    Attributes:
        path: absolute within the layer, such as `b"/etc/hosts"`.
        kind: the kind of the change.
    """

    path: bytes
    kind: ChangeKind

    def __str__(self) -> str:
        return f"{self.kind.value} {os.fsdecode(self.path)}"


class TouchedPaths:
    """Paths of a tree that may differ from the tree that it is a snapshot of.

    Args:
        paths: as in `Change`. They must contain everything that is another file than before, or has changed, under each
            of its names: files that were changed, created, linked, renamed or moved; directories in which a name was
            added or removed; `b"/"` for the root. Of a directory that was moved, the content may be missing, except for
            hard-linked files: these must be there under all their names.
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
        """Return whether `path`, relative to the root of the tree, is a touched path."""
        return path in self._paths

    def names_in(self, directory: bytes) -> set[str]:
        """Return the names in a directory, relative to the root, that were touched or have touched paths below them."""
        return set(self._names.get(directory, ()))
