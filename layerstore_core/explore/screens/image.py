"""The screen of one image: its layers, the tree, and the details below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import BinaryIO, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from layerstore_core.errors import LayerStoreError
from layerstore_core.explore import keys
from layerstore_core.explore.describe import layer_line, layer_lines
from layerstore_core.explore.details import (
    Detail,
    config_lines,
    duplicate_lines,
    package_lines,
    total_lines,
    waste_lines,
)
from layerstore_core.explore.file_tree import File, FileTree
from layerstore_core.explore.filters import FileFilter
from layerstore_core.explore.image import Closed, ExploredImage, Scope
from layerstore_core.explore.lines import Line, Part
from layerstore_core.explore.marks import Mark
from layerstore_core.explore.origins import origin_lines
from layerstore_core.explore.screens.asking import Question
from layerstore_core.explore.screens.trees import TreeScreen
from layerstore_core.explore.widgets.file_list import FileList
from layerstore_core.explore.widgets.line_list import LineList
from layerstore_core.text import printable
from layerstore_core.view.analysis.duplicates import Duplicates
from layerstore_core.view.copy_out import Copied
from layerstore_core.view.packages.package import Package


class Tab(Enum):
    """What the part below shows."""

    TOTALS = "Totals"
    WASTE = "Waste"
    DUPLICATES = "Duplicates"
    PACKAGES = "Packages"
    CONFIG = "Config"


class ImageScreen(TreeScreen):
    """The screen of one image.

    Args:
        image: the image, which is closed by who opened it.
        compare: called with the image and a word when the user wants to compare it with another image.
        layer: index of the layer to begin with; `None` for the topmost one.
        scope: what the tree shows of it.
        chosen: the filter to begin with.
        text: the words of the filter.
    """

    DEFAULT_CSS: ClassVar[str] = """
    ImageScreen { background: ansi_default; layout: vertical; }
    ImageScreen #upper { height: 1fr; }
    ImageScreen #left { width: 40%; }
    ImageScreen #layers { height: 1fr; }
    ImageScreen #layer { height: 8; }
    ImageScreen #tree { width: 1fr; height: 1fr; }
    ImageScreen #details { height: 11; }
    ImageScreen #keys { height: 1; text-style: dim; background: ansi_default; color: ansi_default; }
    ImageScreen.-narrow #upper { layout: vertical; }
    ImageScreen.-narrow #left { width: 100%; height: 30%; min-height: 4; }
    ImageScreen.-narrow #layer { display: none; }
    ImageScreen.-narrow #details { height: 30%; }
    ImageScreen.-short #layer { display: none; }
    ImageScreen.-short #details { height: 7; }
    ImageScreen.-low #layer { display: none; }
    ImageScreen.-low #details { display: none; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual's name and type
    VERTICAL_BREAKPOINTS = [(0, "-low"), (18, "-short"), (30, "-high")]  # noqa: RUF012
    AUTO_FOCUS = "#layers"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.close", "Close"),
        Binding("L,ctrl+l", "scope('LAYER')", "The layer"),
        Binding("W", "scope('WHOLE')", "All up to it"),
        Binding("B", "scope('SINCE_BASE')", "Since the base"),
        Binding("c", "compare", "Compare"),
        Binding("i", "details", "Details", show=False),
        *(Binding(str(number), f"tab({number - 1})", tab.value, show=False) for number, tab in enumerate(Tab, 1)),
        Binding("right_square_bracket", "next_tab(1)", "Next", show=False),
        Binding("left_square_bracket", "next_tab(-1)", "Previous", show=False),
    ]
    KEYS: ClassVar[str] = (
        " Tab part  Space open  Enter read  L layer  W all  / filter  w which  e export  c compare  ? keys  q quit"
    )

    def __init__(
        self,
        image: ExploredImage,
        compare: Callable[[ExploredImage, int, str], None],
        *,
        layer: int | None = None,
        scope: Scope = Scope.WHOLE,
        chosen: FileFilter | None = None,
        text: str = "",
    ) -> None:
        super().__init__(chosen, text)
        self.image = image
        self.number = max(len(image.layers) - 1, 0) if layer is None else layer
        self.scope = scope
        self.tab = Tab.TOTALS
        self._compare = compare
        self._duplicates: tuple[Duplicates, ...] | None = None
        self._packages: tuple[Package, ...] | None = None
        self._read_error: list[Detail] = []
        self._reading = False
        self._details: Sequence[Detail] = ()

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        with Horizontal(id="upper"):
            with Vertical(id="left"):
                yield LineList("Layers", widget_id="layers")
                yield LineList("", cursor=False, widget_id="layer")
            yield FileList("", widget_id="tree")
        yield LineList("", widget_id="details")
        yield Static(self.KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        """Show the image."""
        image = self.image
        layers = self.query_one("#layers", LineList)
        layers.border_title = f"Layers of {printable(image.name, backslash=False)}"
        if image.layers:
            layers.show_lines(len(image.layers), lambda number: layer_line(image, number), cursor=self.number)
        else:
            layers.show_lines(1, lambda _: (Part("The image has no layers."),))
        self.query_one("#layer", LineList).can_focus = False
        self.show_layer(self.number)
        self.show_tab(self.tab)

    # Layers

    def on_line_list_moved(self, event: LineList.Moved) -> None:
        """Show the layer of the cursor."""
        if event.list.id == "layers" and self.image.layers and event.number != self.number:
            self.show_layer(event.number)

    def show_layer(self, number: int) -> None:
        """Show a layer, and its tree."""
        path = self.files.current.path if self.files.current is not None else b""
        self.number = number
        lines = layer_lines(self.image, number)
        self.query_one("#layer", LineList).show_lines(len(lines), lambda one: lines[one])
        marks = self.image.marks(number, self.scope)
        tree = FileTree(self.image.tree(number), marks, only_marked=self.scope is Scope.LAYER)
        counts = " ".join(f"{mark.letter}{marks.count(mark)}" for mark in Mark if mark is not Mark.SAME)
        self.files.border_title = f"Tree: {self.scope.value.replace('the layer', f'layer {number}')}  {counts}"
        self.show_tree(tree, path=path, empty="The layer changes nothing.")

    def action_scope(self, name: str) -> None:
        """Show another part of the layer's tree."""
        self.scope = Scope[name]
        self.show_layer(self.number)

    def action_hide(self, mark: str) -> None:
        """Hide files with a mark; in the list of layers Ctrl+A shows the changes since the base, as dive does."""
        if mark == "added" and self.focused is not None and self.focused.id == "layers":
            self.action_scope("SINCE_BASE")
        else:
            super().action_hide(mark)

    def action_compare(self) -> None:
        """Ask what to compare the layer with."""

        def compare(word: str | None) -> None:
            if word and word.strip():
                self._compare(self.image, self.number, word.strip())

        question = f"Compare layer {self.number} with another layer (a number), or the image with another one (a name)"
        self.app.push_screen(Question(question, str(max(self.number - 1, 0))), compare)

    # Files

    def open_content(self, file: File) -> AbstractContextManager[BinaryIO]:
        """Open a regular file of the tree for a `with` block."""
        return self.image.open_file(file.node, file.path)

    def copy_out(self, file: File, target: str) -> Copied:
        """Copy a file of the tree to the host; one that is deleted as it was."""
        layer = self.number if file.mark is not Mark.DELETED else self._layer_before(file)
        return self.image.export(layer, file.path, target)

    def _layer_before(self, file: File) -> int:
        return 0 if self.scope is Scope.SINCE_BASE else self.number - 1

    def origins(self, file: File) -> list[Line]:
        """Return which layers a file comes from."""
        return origin_lines(self.image, file.path)

    def help_lines(self) -> list[Line]:
        """Return the keys."""
        return keys.help_lines(keys.COMMON, keys.TREE, keys.IMAGE, keys.READING)

    # Details

    def show_tab(self, tab: Tab) -> None:
        """Show other details."""
        self.tab = tab
        view = self.query_one("#details", LineList)
        names = [f"[{one.value}]" if one is tab else one.value for one in Tab]
        view.border_title = "  ".join(f"{number} {name}" for number, name in enumerate(names, 1)).replace("[", r"\[")
        if tab in (Tab.DUPLICATES, Tab.PACKAGES) and not self._reading:
            self._reading = True
            self._read_more()
        self._details = (
            self._read_error
            or {
                Tab.TOTALS: lambda: total_lines(self.image),
                Tab.WASTE: lambda: waste_lines(self.image),
                Tab.DUPLICATES: lambda: duplicate_lines(self._duplicates),
                Tab.PACKAGES: lambda: package_lines(self._packages),
                Tab.CONFIG: lambda: config_lines(self.image),
            }[tab]()
        )
        details = self._details
        view.show_lines(len(details), lambda number: details[number].line)

    @work(thread=True, group="details", exit_on_error=True)
    def _read_more(self) -> None:
        """Read packages and duplicates, which takes time, in a thread."""
        try:
            self._packages = self.image.packages()
            self.app.call_from_thread(self._show_more)
            self._duplicates = self.image.duplicates()
            self.app.call_from_thread(self._show_more)
        except Closed:
            return
        except (LayerStoreError, OSError) as error:
            self.app.call_from_thread(self.tell_error, error)

    def _show_more(self) -> None:
        if self.is_attached and self.tab in (Tab.DUPLICATES, Tab.PACKAGES):
            self.show_tab(self.tab)

    def action_tab(self, number: int) -> None:
        """Show other details, and go there."""
        view = self.query_one("#details", LineList)
        view.display = True
        self.show_tab(list(Tab)[number])

    def action_next_tab(self, step: int) -> None:
        """Show the next details."""
        tabs = list(Tab)
        self.action_tab((tabs.index(self.tab) + step) % len(tabs))

    def action_details(self) -> None:
        """Hide or show the details."""
        view = self.query_one("#details", LineList)
        view.display = not view.display

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """Go from a line to what it is about."""
        if event.list.id == "layers":
            self.files.focus()
        elif event.list.id == "details":
            self._go_to(self._details[event.number])
        # A file of the tree is for the handler of `TreeScreen`, which Textual calls, too.

    def _go_to(self, detail: Detail) -> None:
        """Show the path of a line of details in the tree."""
        if detail.path is None:
            return
        self.scope = Scope.WHOLE
        self._filter, self._filter_text = FileFilter(), ""
        self._hidden.clear()
        layer = len(self.image.layers) - 1 if detail.layer is None else detail.layer
        self.query_one("#layers", LineList).move_to(layer)
        self.show_layer(layer)
        if self.files.reveal(detail.path):
            self.files.focus()
