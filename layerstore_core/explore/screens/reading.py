"""Screens to read: lines of text, and the content of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from layerstore_core.explore.contents import FileContent
from layerstore_core.explore.lines import Line, plain
from layerstore_core.explore.screens.asking import Question
from layerstore_core.explore.widgets.line_list import LineList
from layerstore_core.text import human_size


class Reading(ModalScreen[None]):
    """Lines of text, to read.

    Args:
        title: what they are.
        lines: the lines.
    """

    DEFAULT_CSS: ClassVar[str] = """
    Reading { background: ansi_default; layout: vertical; }
    Reading LineList { height: 1fr; width: 1fr; }
    Reading #keys { height: 1; text-style: dim; background: ansi_default; color: ansi_default; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close"),
        Binding("slash,ctrl+f", "search", "Search"),
        Binding("n", "again(1)", "Next", show=False),
        Binding("N", "again(-1)", "Previous", show=False),
    ]
    KEYS: ClassVar[str] = " q close   / search   n N next, previous   < > sideways"

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self._sought: re.Pattern[str] | None = None

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield LineList(self._title)
        yield Static(self.KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        """Show the lines."""
        self.show_lines(self._lines)

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Show other lines."""
        self._lines = lines
        self.query_one(LineList).show_lines(len(lines), lambda number: self._lines[number])

    def action_search(self) -> None:
        """Ask for a text, and go to the next line that has it."""

        def search(text: str | None) -> None:
            if text:
                self._sought = re.compile(re.escape(text), re.IGNORECASE if text == text.lower() else re.NOFLAG)
                self.action_again(1, here=True)

        self.app.push_screen(Question("Search", ""), search)

    def action_again(self, step: int, *, here: bool = False) -> None:
        """Go to the next line that has the text, or to the one before."""
        if self._sought is None:
            return
        view = self.query_one(LineList)
        number = view.cursor if here else view.cursor + step
        while 0 <= number < len(self._lines):
            if self._sought.search(plain(self._lines[number])):
                view.move_to(number)
                return
            number += step
        self.notify("It is not there.", severity="warning")


class ContentReading(Reading):
    """The content of a file, as text or as hex digits.

    Args:
        title: the path of the file.
        content: the content.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("x", "hex", "Text/hex")]
    KEYS: ClassVar[str] = " q close   x text, hex   / search   n N next, previous   < > sideways"

    def __init__(self, title: str, content: FileContent) -> None:
        self.hex = not content.is_text
        cut = "" if content.is_whole else f", the first {human_size(len(content.data))}"
        super().__init__(f"{title}  {human_size(content.size)}{cut}", ())
        self._content = content

    def on_mount(self) -> None:
        """Show the content."""
        self.show_lines(self._content.hex_lines() if self.hex else self._content.text_lines())

    def action_hex(self) -> None:
        """Show hex digits instead of text, or the other way round."""
        self.hex = not self.hex
        self.show_lines(self._content.hex_lines() if self.hex else self._content.text_lines())
