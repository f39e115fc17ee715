"""The visible rows of a tree: which directories are open, and what that shows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from layerstore_core.explore.file_tree import File, FileTree, Order


class VisibleRows:
    """The rows of a tree of files, in the order in which they are shown.

    Opening and closing a directory changes only the rows below it.

    Args:
        tree: the tree.
    """

    def __init__(self, tree: FileTree) -> None:
        self.tree = tree
        self.opened: set[bytes] = set()
        self._rows: list[File] = []
        self.renew()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> File:
        return self._rows[number]

    def __iter__(self) -> Iterator[File]:
        return iter(self._rows)

    def renew(self) -> None:
        """Make all rows again, because the tree shows other files now."""
        self._rows = list(self._below(self.tree.top()))

    def is_open(self, file: File) -> bool:
        """Return whether the files in a directory are shown."""
        return file.path in self.opened

    def open(self, number: int) -> None:
        """Show what is in the directory of a row; nothing if it is open, or no directory."""
        file = self._rows[number]
        if file.path in self.opened or not self.tree.has_children(file):
            return
        self.opened.add(file.path)
        self._rows[number + 1 : number + 1] = self._below(file)

    def close(self, number: int) -> None:
        """Hide what is in the directory of a row; nothing if it is not open."""
        file = self._rows[number]
        if file.path not in self.opened:
            return
        self.opened.discard(file.path)
        end = number + 1
        while end < len(self._rows) and self._rows[end].depth > file.depth:
            end += 1
        del self._rows[number + 1 : end]

    def toggle(self, number: int) -> None:
        """Open the directory of a row, or close it."""
        if self._rows[number].path in self.opened:
            self.close(number)
        else:
            self.open(number)

    def open_all(self) -> None:
        """Open all directories that are shown."""
        pending = [self.tree.top()]
        while pending:
            for file in self.tree.children(pending.pop()):
                if file.node.children or self.tree.has_children(file):
                    self.opened.add(file.path)
                    pending.append(file)
        self.renew()

    def close_all(self) -> None:
        """Close all directories."""
        self.opened.clear()
        self.renew()

    def sort(self, order: Order) -> None:
        """Sort the files of each directory in another way."""
        self.tree.order = order
        self.renew()

    def parent(self, number: int) -> int:
        """Return the row of the directory that a row is in; the same row if that is the root."""
        depth = self._rows[number].depth
        for above in range(number - 1, -1, -1):
            if self._rows[above].depth < depth:
                return above
        return number

    def find(self, path: bytes) -> int | None:
        """Return the row of a path; `None` if it is not visible."""
        if self.tree.order is Order.NAME:  # each directory is sorted, and so are the names on the way
            key = path.split(b"/")
            number = bisect_left(self._rows, key, key=lambda file: file.path.split(b"/"))
            return number if number < len(self._rows) and self._rows[number].path == path else None
        return next((number for number, file in enumerate(self._rows) if file.path == path), None)

    def nearest(self, path: bytes) -> int:
        """Return the row of a path, or of the first directory above it that is visible; 0 if there is none."""
        while path:
            found = self.find(path)
            if found is not None:
                return found
            path = path.rpartition(b"/")[0]
        return 0

    def reveal(self, path: bytes) -> int | None:
        """Open the directories that a path is in, and return its row; `None` if the tree does not show it."""
        names = path.split(b"/")
        for count in range(1, len(names)):
            number = self.find(b"/".join(names[:count]))
            if number is None:
                return None
            self.open(number)
        return self.find(path)

    def next_marked(self, number: int, step: int) -> int | None:
        """Return the next row with a mark of its own, or the one before; `None` if there is none.

        Args:
            number: the row to begin after.
            step: 1 or -1.
        """
        while 0 <= (number := number + step) < len(self._rows):
            if self._rows[number].mark.letter != " ":
                return number
        return None

    def _below(self, file: File) -> Iterator[File]:
        """Yield the visible files below a directory."""
        pending = [iter(self.tree.children(file))]
        opened = self.opened
        while pending:
            for one in pending[-1]:
                yield one
                if one.path in opened:
                    pending.append(iter(self.tree.children(one)))
                    break
            else:
                pending.pop()
