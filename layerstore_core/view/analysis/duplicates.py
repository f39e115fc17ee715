"""Files of the same content in one tree."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple

from layerstore_core.view.nodes import FileNode
from layerstore_core.view.tree import TreeView


class Duplicates(NamedTuple):
    """Files that have the same content, and are no hard links of each other.

    Attributes:
        size: the size of each in bytes.
        paths: one path of each, sorted.
    """

    size: int
    paths: tuple[bytes, ...]

    @property
    def wasted(self) -> int:
        """The bytes of all but one."""
        return self.size * (len(self.paths) - 1)


def find_duplicates(view: TreeView, *, before_file: Callable[[], None] | None = None) -> tuple[Duplicates, ...]:
    """Return the files of a view that have the same content, those that waste most first.

    Files of the same size and checksum are read, and compared by their sha256, unless their digests are known. Empty
    files are left out.

    Args:
        view: the view.
        before_file: called before each file is read. What it raises ends the search.

    Raises:
        IntegrityError: a layer is damaged.
        OSError: a file cannot be read.
    """
    files: dict[int, tuple[bytes, FileNode]] = {}
    for path, node in view.walk():
        if isinstance(node, FileNode) and node.size:
            files.setdefault(id(node), (path, node))
    found = []
    for same_size in _groups(files.values(), lambda node: node.size):
        for candidates in _groups(same_size, lambda node: view.digest(node) or node.crc):
            found += [
                Duplicates(same[0][1].size, tuple(sorted(path for path, _ in same)))
                for same in _groups(candidates, lambda node: _sha256(view, node, before_file))
            ]
    return tuple(sorted(found, key=lambda one: (-one.wasted, one.paths)))


def _groups(
    files: Iterable[tuple[bytes, FileNode]], key: Callable[[FileNode], Hashable]
) -> Iterator[list[tuple[bytes, FileNode]]]:
    """Yield the files that have a key in common with another one."""
    by_key: dict[Hashable, list[tuple[bytes, FileNode]]] = {}
    for one in files:
        by_key.setdefault(key(one[1]), []).append(one)
    return (group for group in by_key.values() if len(group) > 1)


def _sha256(view: TreeView, node: FileNode, before_file: Callable[[], None] | None) -> bytes:
    if known := view.digest(node):
        return known
    if before_file is not None:
        before_file()
    digest = hashlib.sha256()
    for chunk in view.chunks(node):
        digest.update(chunk)
    return digest.digest()
