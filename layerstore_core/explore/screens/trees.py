"""What all screens with a tree of files have in common: filters, reading and copying files."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input
from textual.worker import get_current_worker

from layerstore_core.errors import LayerStoreError
from layerstore_core.explore.contents import FileContent
from layerstore_core.explore.describe import file_lines
from layerstore_core.explore.file_tree import File, FileTree, Order
from layerstore_core.explore.filters import FileFilter, parse_filter
from layerstore_core.explore.lines import Line, shown, shown_path
from layerstore_core.explore.marks import Mark, Marks
from layerstore_core.explore.screens.asking import Question
from layerstore_core.explore.screens.reading import ContentReading, Reading
from layerstore_core.explore.widgets.file_list import FileList
from layerstore_core.explore.widgets.line_list import LineList
from layerstore_core.text import human_size, printable
from layerstore_core.view.copy_out import Copied
from layerstore_core.view.nodes import FileNode


class TreeScreen(Screen[None]):
    """A screen with a tree of files, whose widgets are `FileList` and an `Input` with the ID `filter`.

    Args:
        chosen: the filter to begin with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash,ctrl+f", "filter", "Filter"),
        Binding("escape", "clear", "Clear the filter", show=False),
        Binding("ctrl+a,a", "hide('added')", "Added", show=False),
        Binding("ctrl+r,r", "hide('deleted')", "Deleted", show=False),
        Binding("m", "hide('changed')", "Changed", show=False),
        Binding("M", "hide('moved')", "Moved", show=False),
        Binding("ctrl+u,U", "hide('same')", "Unchanged", show=False),
        Binding("ctrl+b,b", "attributes", "Attributes", show=False),
        Binding("s", "sort", "Sort", show=False),
        Binding("f", "file", "About the file", show=False),
        Binding("w", "which", "Which layer", show=False),
        Binding("e,ctrl+e", "export", "Export", show=False),
        Binding("question_mark", "help", "Help"),
    ]

    def __init__(self, chosen: FileFilter | None = None, text: str = "") -> None:
        super().__init__()
        self._filter = chosen or FileFilter()
        self._filter_text = text
        self._hidden: set[Mark] = set()
        self._matches: int | None = None

    # What a kind of screen has to say

    @abstractmethod
    def open_content(self, file: File) -> AbstractContextManager[BinaryIO]:
        """Open a regular file of the tree for a `with` block, in a thread."""

    @abstractmethod
    def copy_out(self, file: File, target: str) -> Copied:
        """Copy a file of the tree to the host, in a thread."""

    @abstractmethod
    def origins(self, file: File) -> list[Line]:
        """Return where a file comes from."""

    @abstractmethod
    def help_lines(self) -> list[Line]:
        """Return the keys."""

    # The tree

    @property
    def files(self) -> FileList:
        """The tree of files."""
        return self.query_one(FileList)

    @property
    def has_filter(self) -> bool:
        """Whether files are hidden by a filter."""
        return bool(self._filter) or bool(self._hidden)

    def show_tree(self, tree: FileTree, *, path: bytes = b"", empty: str = "") -> None:
        """Show a tree, filtered as the one before; directories that are open there are here, too."""
        files = self.files
        keep = files.rows
        tree.order = keep.tree.order if keep is not None else Order.NAME
        if not self.has_filter:
            files.show_tree(tree, keep=keep, path=path, empty=empty)
            self.show_count(None)
            return
        self._select(tree, path)

    @work(thread=True, exclusive=True, group="filter", exit_on_error=True)
    def _select(self, tree: FileTree, path: bytes) -> None:
        """Find the files that fit, in a thread, and show the tree with them."""
        worker = get_current_worker()
        found = tree.select(self._fits(), cancelled=lambda: worker.is_cancelled)
        if found is not None and not worker.is_cancelled:
            self.app.call_from_thread(self._show_selected, tree, *found, path)

    def _show_selected(self, tree: FileTree, chosen: set[bytes], count: int, path: bytes) -> None:
        tree.chosen = chosen if self.has_filter else None
        files = self.files
        files.show_tree(tree, keep=files.rows, path=path, empty="No file fits the filter.")
        rows = files.rows
        if rows is not None and self._filter and len(chosen) <= _MOST_OPENED:
            rows.open_all()
            files.update_rows(path)
        self.show_count(count if self.has_filter else None)

    def show_count(self, count: int | None) -> None:
        """Say how many files fit the filter; `None` without one."""
        self._matches = count
        parts = [f"{count} files fit"] if count is not None else []
        if self._filter_text:
            parts.append(printable(self._filter_text, backslash=False))
        if self._hidden:
            parts.append("without " + ", ".join(mark.value for mark in Mark if mark in self._hidden))
        self.files.border_subtitle = "  ".join(parts)

    def filter_again(self) -> None:
        """Show the same tree after the filter has changed."""
        files = self.files
        if files.rows is None:
            return
        path = files.current.path if files.current is not None else b""
        old = files.rows.tree
        tree = FileTree(old.root, old.marks, only_marked=old.only_marked)
        self.show_tree(tree, path=path)

    def _fits(self) -> Callable[[File], bool]:
        chosen, hidden = self._filter, frozenset(self._hidden)
        if not hidden:
            return chosen.fits

        def fits(file: File) -> bool:
            # A directory without a mark is on the way to others; alone it is nothing to show.
            mark_hidden = file.mark in hidden
            return not mark_hidden and chosen.fits(file)

        return fits

    def action_filter(self) -> None:
        """Ask for a filter."""

        def use(text: str | None) -> None:
            if text is None:
                return
            try:
                chosen = parse_filter(text)
            except ValueError as error:
                self.notify(printable(str(error), backslash=False), severity="error", markup=False)
                return
            self._filter, self._filter_text = chosen, text
            self.filter_again()
            self.files.focus()

        self.app.push_screen(Question(_FILTER_HELP, self._filter_text), use)

    def action_clear(self) -> None:
        """Show all files again."""
        if self.has_filter:
            self._filter, self._filter_text = FileFilter(), ""
            self._hidden.clear()
            self.filter_again()

    def action_hide(self, mark: str) -> None:
        """Hide the files with a mark, or show them again."""
        self._hidden ^= {Mark(mark)}
        self.filter_again()

    def action_attributes(self) -> None:
        """Show or hide modes and owners."""
        self.files.attributes = not self.files.attributes
        self.files.refresh()

    def action_sort(self) -> None:
        """Sort by size, or by name again."""
        rows = self.files.rows
        if rows is not None:
            order = Order.NAME if rows.tree.order is Order.SIZE else Order.SIZE
            self.files.sort(order)
            self.notify(f"Sorted by {order.value}.")

    # One file

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """Open the directory or the file of the tree that was chosen."""
        files = self.files
        if event.list is not files or files.current is None:
            return
        event.stop()
        file = files.current
        if file.node.is_directory:
            files.action_toggle_directory()
        elif isinstance(file.node, FileNode):
            self._read(file)
        else:
            self.action_file()

    @work(thread=True, exclusive=True, group="content", exit_on_error=True)
    def _read(self, file: File) -> None:
        """Read a file in a thread, and show it."""
        try:
            with self.open_content(file) as opened:
                content = FileContent.read(opened, file.node.size)
        except (LayerStoreError, OSError) as error:
            self.app.call_from_thread(self.tell_error, error)
            return
        self.app.call_from_thread(self.app.push_screen, ContentReading(shown_path(file.path), content))

    def action_file(self) -> None:
        """Show all there is to say about the file of the cursor."""
        file = self.files.current
        if file is None:
            return
        marks: Marks | None = self.files.rows.tree.marks if self.files.rows is not None else None
        marked = marks.paths.get(file.path) if marks is not None else None
        lines = file_lines(file, marked.what if marked else (), marked.before if marked else None)
        self.app.push_screen(Reading("The file", lines))

    def action_which(self) -> None:
        """Show which layers the file of the cursor comes from."""
        file = self.files.current
        if file is not None:
            self.app.push_screen(Reading("Where it comes from", self.origins(file)))

    def action_export(self) -> None:
        """Ask where to, and copy the file of the cursor to the host."""
        file = self.files.current
        if file is None:
            return

        def export(target: str | None) -> None:
            if target:
                self._export(file, os.path.expanduser(target))

        name = shown(file.name) or "root"
        self.app.push_screen(Question(f"Copy {shown_path(file.path)} to", os.path.join(os.getcwd(), name)), export)

    @work(thread=True, group="export", exit_on_error=True)
    def _export(self, file: File, target: str) -> None:
        """Copy a file to the host in a thread."""
        try:
            copied = self.copy_out(file, target)
        except (LayerStoreError, OSError) as error:
            self.app.call_from_thread(self.tell_error, error)
            return
        text = f"{copied.files} files, {human_size(copied.bytes)}: {copied.target}"
        self.app.call_from_thread(self.notify, printable(text, backslash=False), title="Copied", markup=False)

    def action_help(self) -> None:
        """Show the keys."""
        self.app.push_screen(Reading("Keys", self.help_lines()))

    def tell_error(self, error: Exception) -> None:
        """Show an error."""
        text = str(error)
        if isinstance(error, OSError) and error.strerror:
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        self.notify(printable(text, backslash=False), title="Error", severity="error", timeout=15, markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Leave the line of the filter."""
        event.stop()


_MOST_OPENED = 5000
_FILTER_HELP = (
    "Filter: part of a path, *.pattern, :added,changed,deleted,moved,same, >1M, <10k, ~regular expression. "
    "All words have to fit."
)
