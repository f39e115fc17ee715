"""The tree of files as a widget."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from layerstore_core.explore.describe import file_line
from layerstore_core.explore.file_tree import File, FileTree, Order
from layerstore_core.explore.lines import Line, Part, Role
from layerstore_core.explore.rows import VisibleRows
from layerstore_core.explore.widgets.line_list import LineList

#: So many files are shown with all directories open from the start.
_FEW = 200
#: Modes and owners are left out where there is no room for names beside them.
_WIDE = 50


class FileList(LineList):
    """A tree of files, whose directories open and close.

    Attributes:
        rows: the visible rows.
        attributes: whether modes and owners are shown.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "toggle_directory", "Open/close", show=False),
        Binding("right,l", "open", "Open", show=False),
        Binding("left,h", "close", "Close", show=False),
        Binding("ctrl+@,ctrl+space,z", "toggle_all", "All", show=False),
        Binding("n", "next(1)", "Next change", show=False),
        Binding("N", "next(-1)", "Previous change", show=False),
    ]

    def __init__(self, title: str = "", *, widget_id: str | None = None) -> None:
        super().__init__(title, widget_id=widget_id)
        self.rows: VisibleRows | None = None
        self.attributes = True
        self._empty = ""

    @property
    def current(self) -> File | None:
        """The file of the cursor; `None` if there is none."""
        return self.rows[self.cursor] if self.rows else None

    def show_tree(self, tree: FileTree, *, keep: VisibleRows | None = None, path: bytes = b"", empty: str = "") -> None:
        """Show a tree.

        Args:
            tree: the tree.
            keep: rows of another tree: directories that are open there are here, too.
            path: where the cursor is to be.
            empty: what to say if there are no files.
        """
        rows = VisibleRows(tree)
        if keep is not None:
            rows.opened = set(keep.opened)
            rows.renew()
        self.rows = rows
        self._empty = empty
        if tree.only_marked and len(tree.marks.paths) <= _FEW:
            rows.open_all()
        self.update_rows(path)

    def update_rows(self, path: bytes = b"") -> None:
        """Show the rows again, after they have changed, with the cursor at a path or near to it."""
        rows = self.rows
        assert rows is not None
        if len(rows):
            self.show_lines(len(rows), self._line, cursor=rows.nearest(path))
        else:
            self.show_lines(1, lambda _: (Part(self._empty, Role.FAINT),))
        self.post_message(self.Moved(self, self.cursor))

    def sort(self, order: Order) -> None:
        """Sort the files of each directory in another way."""
        if self.rows is not None:
            path = self.current.path if self.current is not None else b""
            self.rows.sort(order)
            self.update_rows(path)

    def reveal(self, path: bytes) -> bool:
        """Move the cursor to a path, and open the directories that it is in; return whether it is there."""
        if self.rows is None:
            return False
        number = self.rows.reveal(path)
        if number is None:
            return False
        self.update_rows(path)
        return True

    def action_toggle_directory(self) -> None:
        """Open or close the directory of the cursor."""
        self._change(VisibleRows.toggle)

    def action_open(self) -> None:
        """Open the directory of the cursor; go into it if it is open."""
        file, rows = self.current, self.rows
        if file is None or rows is None:
            return
        if rows.is_open(file):
            self.move_to(self.cursor + 1)
        else:
            self._change(VisibleRows.open)

    def action_close(self) -> None:
        """Close the directory of the cursor; go to the directory above if it is closed."""
        file, rows = self.current, self.rows
        if file is None or rows is None:
            return
        if rows.is_open(file):
            self._change(VisibleRows.close)
        else:
            self.move_to(rows.parent(self.cursor))

    def action_toggle_all(self) -> None:
        """Close all directories; open all if none is open."""
        rows, file = self.rows, self.current
        if rows is None:
            return
        if rows.opened:
            rows.close_all()
        else:
            rows.open_all()
        self.update_rows(file.path if file is not None else b"")

    def action_next(self, step: int) -> None:
        """Go to the next visible row with a mark, or to the one before."""
        found = self.rows.next_marked(self.cursor, step) if self.rows is not None else None
        if found is not None:
            self.move_to(found)

    def _change(self, change: object) -> None:
        rows = self.rows
        if rows is None or self.current is None:
            return
        assert callable(change)
        change(rows, self.cursor)
        self.show_lines(len(rows), self._line, cursor=self.cursor)

    def _line(self, number: int) -> Line:
        rows = self.rows
        assert rows is not None
        file = rows[number]
        return file_line(
            file,
            is_open=rows.is_open(file),
            has_children=file.node.is_directory and rows.tree.has_children(file),
            attributes=self.attributes and self.size.width >= _WIDE,
        )
