"""The screen of the whole store: its layers, what is on them, and what could be removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from layerstore_core.base.digests import ChainID
from layerstore_core.errors import LayerStoreError
from layerstore_core.explore import keys
from layerstore_core.explore.lines import Line
from layerstore_core.explore.screens.asking import Confirmation
from layerstore_core.explore.screens.reading import Reading
from layerstore_core.explore.store_tree import (
    StoreState,
    garbage_lines,
    prune_lines,
    read_store,
    remove_garbage,
    remove_unused,
    row_line,
    total_lines,
)
from layerstore_core.explore.widgets.line_list import LineList
from layerstore_core.store.store import LayerStore
from layerstore_core.text import printable


class StoreScreen(Screen[None]):
    """The screen of a store.

    Args:
        store: the open store.
        state: what it contains now.
        explore: called with a layer, or with the name of an image that it is the top of.
    """

    DEFAULT_CSS: ClassVar[str] = """
    StoreScreen { background: ansi_default; layout: vertical; }
    StoreScreen #layers { height: 1fr; }
    StoreScreen #totals { height: 10; max-height: 40%; }
    StoreScreen #keys { height: 1; text-style: dim; background: ansi_default; color: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.close", "Close"),
        Binding("C", "remove('gc')", "gc"),
        Binding("P", "remove('prune')", "prune"),
        Binding("R", "renew", "Read again"),
        Binding("question_mark", "help", "Keys"),
    ]
    AUTO_FOCUS = "#layers"
    KEYS: ClassVar[str] = " jk move  Enter explore  C what gc takes  P what prune takes  R read again  ? keys  q quit"

    def __init__(self, store: LayerStore, state: StoreState, explore: Callable[[ChainID, str | None], None]) -> None:
        super().__init__()
        self.store = store
        self.state = state
        self._explore = explore

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield LineList("", widget_id="layers")
        yield LineList("Totals", widget_id="totals")
        yield Static(self.KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        """Show the store."""
        self.show_state(self.state)

    def show_state(self, state: StoreState) -> None:
        """Show another state of the store."""
        self.state = state
        layers = self.query_one("#layers", LineList)
        layers.border_title = f"{len(state.rows)} layers: own size, with all on them, ID, images"
        layers.show_lines(len(state.rows), lambda number: row_line(state, number), cursor=layers.cursor)
        totals = total_lines(state)
        self.query_one("#totals", LineList).show_lines(len(totals), lambda number: totals[number])

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        """Explore the layer of the cursor, or the image that it is the top of."""
        if event.list.id == "layers":
            row = self.state.rows[event.number]
            self._explore(row.chain_id, row.images[0] if row.images else None)

    def action_help(self) -> None:
        """Show the keys."""
        self.app.push_screen(Reading("Keys", keys.help_lines(keys.COMMON, keys.STORE)))

    @work(thread=True, exclusive=True, group="store", exit_on_error=True)
    def action_renew(self) -> None:
        """Read the store again, in a thread."""
        self._do(lambda: read_store(self.store), self.show_state)

    @work(thread=True, exclusive=True, group="store", exit_on_error=True)
    def action_remove(self, which: str) -> None:
        """Find in a thread what `gc` or `prune` would remove; show it, and ask whether to remove it."""
        find = garbage_lines if which == "gc" else prune_lines
        self._do(lambda: find(self.store), lambda lines: self._show(which, lines))

    def _show(self, which: str, lines: list[Line]) -> None:
        def ask(_: object) -> None:
            if len(lines) > 1:
                question = f"Remove the {len(lines) - 1} objects that were shown, as 'layerstore {which}' does?"
                self.app.push_screen(Confirmation(question), remove)

        def remove(yes: bool | None) -> None:
            if yes:
                self._remove(which)

        self.app.push_screen(Reading(f"What {which} would remove; close this to be asked", lines), ask)

    @work(thread=True, exclusive=True, group="store", exit_on_error=True)
    def _remove(self, which: str) -> None:
        """Remove what `gc` or `prune` removes, in a thread, and read the store again."""
        act = remove_garbage if which == "gc" else remove_unused
        self._do(lambda: act(self.store), lambda text: self.notify(printable(text), markup=False))
        self._do(lambda: read_store(self.store), self.show_state)

    def _do(self, work_in_thread: Callable[[], object], show: Callable[..., None]) -> None:
        try:
            found = work_in_thread()
        except (LayerStoreError, OSError) as error:
            self.app.call_from_thread(
                self.notify, printable(str(error), backslash=False), title="Error", severity="error", markup=False
            )
            return
        self.app.call_from_thread(show, found)
