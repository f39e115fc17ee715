"""The program in a terminal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import ClassVar, Final

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from layerstore_core.errors import LayerStoreError
from layerstore_core.explore.terminal import end_with_terminal

_STOPPING: Final = (signal.SIGTERM, signal.SIGHUP)


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
        #: Whether SIGTERM and SIGHUP end the program; and which of them has.
        self.catches_signals = False
        self.stopped_by: int | None = None
        #: What is closed at the end.
        self.opened = ExitStack()

    def compose(self) -> ComposeResult:
        """Say what is being opened."""
        yield Static(f"Reading {self._opening}…", id="opening", markup=False)

    def on_mount(self) -> None:
        """Begin to open it."""
        self.theme = "ansi-dark"
        if self.catches_signals:
            # An exception of a handler would be lost in a task of the loop.
            for number in _STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    asyncio.get_running_loop().add_signal_handler(number, self._stop, number)
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

    def _stop(self, number: int) -> None:
        self.stopped_by = number
        self.exit()

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
    handlers = {number: signal.getsignal(number) for number in _STOPPING}
    app.catches_signals = True
    try:
        with app.opened, end_with_terminal(app.opened.close):
            error = app.run()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if app.stopped_by is not None:
        signal.raise_signal(app.stopped_by)  # now that the terminal is as it was
    if error is not None:
        raise error
