"""The program in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from layerstore_core.errors import LayerStoreError


class ExploreApp(App[Exception | None]):
    """The program; its result is the error that has ended it, or `None`.

    Args:
        opening: what is being opened, to say so.
        open_first: opens what is shown first, in a thread, and returns a function that makes its screen.
    """

    CSS: ClassVar[str] = """
    Screen { background: ansi_default; color: ansi_default; }
    #opening { width: 100%; height: 100%; content-align: center middle; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,ctrl+q", "quit", "Quit", priority=True, show=False),
        Binding("q", "close", "Quit", show=False),
    ]

    def __init__(self, opening: str, open_first: Callable[[ExploreApp], Callable[[], Screen[None]]]) -> None:
        # The terminal's own colours: sixteen are enough, and a light background stays light.
        super().__init__(ansi_color=True)
        self._opening = opening
        self._open_first = open_first
        #: What is closed at the end.
        self.opened = ExitStack()

    def compose(self) -> ComposeResult:
        """Say what is being opened."""
        yield Static(f"Reading {self._opening}…", id="opening", markup=False)

    def on_mount(self) -> None:
        """Begin to open it."""
        self.theme = "ansi-dark"
        self.open_screen(self._open_first)

    @work(thread=True, exclusive=True, group="opening", exit_on_error=True)
    def open_screen(self, opener: Callable[[ExploreApp], Callable[[], Screen[None]]]) -> None:
        """Open something in a thread, and show its screen; the first error ends the program, a later one is told."""
        try:
            make = opener(self)
        except (LayerStoreError, OSError) as error:
            self.call_from_thread(self._failed, error)
            return
        self.call_from_thread(self._show, make)

    def _show(self, make: Callable[[], Screen[None]]) -> None:
        self.push_screen(make())

    def _failed(self, error: Exception) -> None:
        if len(self.screen_stack) > 1:
            from layerstore_core.text import printable

            self.notify(printable(str(error), backslash=False), title="Error", severity="error", markup=False)
        else:
            self.exit(error)

    def action_close(self) -> None:
        """Close the screen; the last one ends the program."""
        if len(self.screen_stack) > 2:
            self.pop_screen()
        else:
            self.exit()


def run(app: ExploreApp) -> None:
    """Run the program until the user ends it, and close what it has opened.

    Raises:
        LayerStoreError, OSError: what was to be explored could not be opened.
    """
    with app.opened:
        error = app.run()
    if error is not None:
        raise error
