"""The screen of a comparison: the tree of what differs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import BinaryIO, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from layerstore_core.explore import keys
from layerstore_core.explore.comparison import LayerComparison, TreeComparison
from layerstore_core.explore.describe import file_lines
from layerstore_core.explore.file_tree import File, FileTree
from layerstore_core.explore.lines import Line
from layerstore_core.explore.marks import Mark
from layerstore_core.explore.screens.trees import TreeScreen
from layerstore_core.explore.widgets.file_list import FileList
from layerstore_core.text import printable
from layerstore_core.view.copy_out import Copied


class ComparisonScreen(TreeScreen):
    """The screen of a comparison.

    Args:
        comparison: the comparison, which is closed by who opened it.
    """

    DEFAULT_CSS: ClassVar[str] = """
    ComparisonScreen { background: ansi_default; layout: vertical; }
    ComparisonScreen FileList { height: 1fr; }
    ComparisonScreen #keys { height: 1; text-style: dim; background: ansi_default; color: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.close", "Close"),
        Binding("L,W", "all", "All files", show=False),
    ]
    KEYS: ClassVar[str] = (
        " j k move  Space open  Enter read  n N change  L only differences, or all  / filter  ? keys  q close"
    )

    def __init__(self, comparison: LayerComparison | TreeComparison) -> None:
        super().__init__()
        self.comparison = comparison
        self._only_marked = True

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield FileList("", widget_id="tree")
        yield Static(self.KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        """Show what differs."""
        marks = self.comparison.marks
        counts = " ".join(f"{mark.letter}{marks.count(mark)}" for mark in Mark if mark is not Mark.SAME)
        self.files.border_title = printable(self.comparison.title, backslash=False) + f"  {counts}"
        self._show()

    def _show(self) -> None:
        path = self.files.current.path if self.files.current is not None else b""
        tree = FileTree(self.comparison.root, self.comparison.marks, only_marked=self._only_marked)
        self.show_tree(tree, path=path, empty="Nothing differs.")

    def action_all(self) -> None:
        """Show all files, or only those that differ again."""
        self._only_marked = not self._only_marked
        self._show()

    def open_content(self, file: File) -> AbstractContextManager[BinaryIO]:
        """Open a regular file of the tree for a `with` block."""
        return self.comparison.open_file(file.node, file.path, file.mark)

    def copy_out(self, file: File, target: str) -> Copied:
        """Copy a file of the tree to the host."""
        return self.comparison.export(file.path, file.mark, target)

    def origins(self, file: File) -> list[Line]:
        """Return what differs in a file."""
        marked = self.comparison.marks.paths.get(file.path)
        return file_lines(file, marked.what if marked else (), marked.before if marked else None)

    def help_lines(self) -> list[Line]:
        """Return the keys."""
        return keys.help_lines(keys.COMMON, keys.TREE, keys.READING)
