"""The tree of files to show: a merged tree with its marks, and the files that are gone from it.

The files of a directory are made when it is first opened, so that a tree of any size is there at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

from layerstore_core.explore.marks import Mark, Marked, Marks
from layerstore_core.view.analysis.sizes import directory_sums
from layerstore_core.view.nodes import Node


class Order(Enum):
    """How the files of a directory are sorted."""

    NAME = "name"
    SIZE = "size"


class File(NamedTuple):
    """A file of a tree.

    Attributes:
        path: relative to the root, without a slash at the beginning.
        depth: how many directories it is in, below the root.
        node: its metadata; of a deleted file as it was.
        mark: what was done to it.
        size: its bytes; of a directory those of the regular files below it.
        moved: the path that it was moved to, or from.
        within: whether files in it have marks.
    """

    path: bytes
    depth: int
    node: Node
    mark: Mark
    size: int
    moved: bytes | None = None
    within: bool = False

    @property
    def name(self) -> bytes:
        """The last component of its path."""
        return self.path.rpartition(b"/")[2]


class FileTree:
    """A tree of files, of which each directory is read when it is first needed.

    Args:
        root: the merged tree.
        marks: what was done to its paths, and which files are gone.
        only_marked: leave out the files that have no mark, and no marked file in them.
    """

    def __init__(self, root: Node, marks: Marks, *, only_marked: bool = False) -> None:
        self.root = root
        self.marks = marks
        self.only_marked = only_marked
        self._order = Order.NAME
        self._sums: dict[int, int] | None = None
        #: Nodes whose identities are keys of `_sums`.
        self._kept: list[Node] = []
        self._children: dict[bytes, list[File]] = {}
        #: The files that are shown; `None` for all. A directory on the way to one of them is among them.
        self.chosen: set[bytes] | None = None

    @property
    def order(self) -> Order:
        """How the files of a directory are sorted."""
        return self._order

    @order.setter
    def order(self, order: Order) -> None:
        if order is not self._order:
            self._order = order
            self._children.clear()

    def top(self) -> File:
        """Return the root."""
        marked = self.marks.paths.get(b"")
        mark = marked.mark if marked is not None else Mark.SAME
        return File(b"", -1, self.root, mark, self._size(self.root), None, b"" in self.marks.inside)

    def children(self, file: File) -> list[File]:
        """Return the files of a directory that are shown, sorted; of any other file, none."""
        found = self._all_children(file)
        if self.chosen is not None:
            return [one for one in found if one.path in self.chosen]
        return found

    def has_children(self, file: File) -> bool:
        """Return whether a file is a directory in which a file is shown."""
        if self.chosen is None and not self.only_marked:
            return bool(file.node.children) or file.path in self.marks.deleted
        return bool(self.children(file))

    def walk(self) -> Iterator[File]:
        """Yield all files but the root, parents first, whether they are chosen or not."""
        pending = [iter(self._all_children(self.top()))]
        while pending:
            for file in pending[-1]:
                yield file
                if file.node.children or file.path in self.marks.deleted:
                    pending.append(iter(self._all_children(file)))
                    break
            else:
                pending.pop()

    def select(
        self, fits: Callable[[File], bool], *, cancelled: Callable[[], bool] = bool
    ) -> tuple[set[bytes], int] | None:
        """Find the files that fit; it may be called in a thread.

        Args:
            fits: whether a file fits.
            cancelled: asked before each file: whether to stop.

        Returns:
            A value for `chosen`: their paths, and those of the directories on the way to them; and how many files fit.
            `None` if it was cancelled.
        """
        chosen: set[bytes] = set()
        count = 0
        for file in self.walk():
            if cancelled():
                return None
            if fits(file):
                count += 1
                path = file.path
                while path and path not in chosen:
                    chosen.add(path)
                    path = path.rpartition(b"/")[0]
        return chosen, count

    def find(self, path: bytes) -> File | None:
        """Return the file with a path; `None` if there is none."""
        file = self.top()
        names = path.split(b"/") if path else []
        for number in range(len(names)):
            here = b"/".join(names[: number + 1])
            found = next((one for one in self._all_children(file) if one.path == here), None)
            if found is None:
                return None
            file = found
        return file

    def _all_children(self, file: File) -> list[File]:
        found = self._children.get(file.path)
        if found is None:
            found = self._children[file.path] = self._read(file)
        return found

    def _read(self, file: File) -> list[File]:
        prefix = file.path + b"/" if file.path else b""
        depth = file.depth + 1
        paths, inside = self.marks.paths, self.marks.inside
        found = []
        for name, node in file.node.children.items():
            path = prefix + name
            marked = paths.get(path)
            if marked is None and file.mark is Mark.DELETED:
                marked = _DELETED
            within = path in inside
            if marked is not None:
                found.append(File(path, depth, node, marked.mark, self._size(node), marked.moved, within))
            elif within or not self.only_marked:
                found.append(File(path, depth, node, Mark.SAME, self._size(node), None, within))
        if file.mark is not Mark.DELETED:
            for name, node in self.marks.deleted.get(file.path, {}).items():
                moved = paths[prefix + name].moved
                found.append(File(prefix + name, depth, node, Mark.DELETED, self._size(node), moved))
        if self._order is Order.SIZE:
            found.sort(key=lambda one: (-one.size, one.path))
        else:
            found.sort(key=lambda one: one.path)
        return found

    def _size(self, node: Node) -> int:
        if not node.children:
            return 0 if node.is_directory else node.size
        if self._sums is None:
            self._sums = {key: one.size for key, one in directory_sums(self.root).items()}
        known = self._sums.get(id(node))
        if known is None:  # it is deleted
            self._sums.update((key, one.size) for key, one in directory_sums(node).items())
            self._kept.append(node)
            known = self._sums[id(node)]
        return known


_DELETED = Marked(Mark.DELETED, None)
