"""A list of lines, of which only the visible ones are made: of any length, with a cursor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from layerstore_core.explore.lines import Line, Role

#: The colours are the terminal's own sixteen.
STYLES: Final = {
    Role.TEXT: Style(),
    Role.FAINT: Style(dim=True),
    Role.HEADING: Style(bold=True),
    Role.DIRECTORY: Style(color="blue", bold=True),
    Role.LINK: Style(color="cyan"),
    Role.ADDED: Style(color="green"),
    Role.CHANGED: Style(color="yellow"),
    Role.DELETED: Style(color="red"),
    Role.MOVED: Style(color="magenta"),
    Role.BAR: Style(color="cyan"),
    Role.ERROR: Style(color="red", bold=True),
}
_CURSOR: Final = Style(reverse=True)
_WEAK_CURSOR: Final = Style(bold=True)
_STEP_ASIDE: Final = 8


class LineList(ScrollView, can_focus=True):
    """A list of lines with a cursor.

    Args:
        title: what stands in the border.
        cursor: whether there is a cursor. Without one, the keys scroll.
        widget_id: the widget's ID.
    """

    DEFAULT_CSS: ClassVar[str] = """
    LineList {
        border: round ansi_bright_black;
        border-title-color: ansi_default;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        scrollbar-color: ansi_bright_black;
        scrollbar-color-hover: ansi_white;
        scrollbar-color-active: ansi_white;
        scrollbar-background: ansi_default;
        scrollbar-background-hover: ansi_default;
        scrollbar-background-active: ansi_default;
        background: ansi_default;
    }
    LineList:focus {
        border: round ansi_cyan;
        border-title-style: bold;
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("pagedown,d", "page(1)", "Page down", show=False),
        Binding("pageup,u", "page(-1)", "Page up", show=False),
        Binding("home,g", "first", "First", show=False),
        Binding("end,G", "last", "Last", show=False),
        Binding("greater_than_sign,shift+right", "aside(1)", "Scroll right", show=False),
        Binding("less_than_sign,shift+left", "aside(-1)", "Scroll left", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]

    @dataclass
    class OfLine(Message):
        """Something has happened to a line.

        Attributes:
            list: the list.
            number: the line.
        """

        list: LineList
        number: int

        @property
        def control(self) -> LineList:
            """The list, by which handlers choose."""
            return self.list

    class Moved(OfLine):
        """The cursor is at another line."""

    class Chosen(OfLine):
        """The line of the cursor was chosen."""

    def __init__(self, title: str = "", *, cursor: bool = True, widget_id: str | None = None) -> None:
        super().__init__(id=widget_id)
        self.border_title = title
        self._has_cursor = cursor
        self._count = 0
        self._line_of: Callable[[int], Line] = lambda _: ()
        self._aside = 0
        self.cursor = 0

    @property
    def count(self) -> int:
        """How many lines there are."""
        return self._count

    def show_lines(self, count: int, line_of: Callable[[int], Line], *, cursor: int = 0) -> None:
        """Show other lines.

        Args:
            count: how many.
            line_of: returns a line by its number.
            cursor: the line of the cursor.
        """
        self._count = count
        self._line_of = line_of
        self.virtual_size = Size(0, count)
        self.cursor = max(0, min(cursor, count - 1))
        self.follow_cursor()
        self.refresh()

    def move_to(self, number: int) -> None:
        """Move the cursor to a line, or to the nearest that there is, and scroll there."""
        number = max(0, min(number, self._count - 1))
        if number != self.cursor:
            before, self.cursor = self.cursor, number
            self._refresh_row(before)
            self._refresh_row(number)
            self.post_message(self.Moved(self, number))
        self.follow_cursor()

    def follow_cursor(self) -> None:
        """Scroll so that the line of the cursor is visible."""
        height = self.scrollable_content_region.height
        if not self._has_cursor or not height:
            return
        top = round(self.scroll_y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False, immediate=True)

    def render_line(self, y: int) -> Strip:
        """Return a visible line as Textual wants it; `y` is from the top of the widget."""
        width = self.scrollable_content_region.width
        number = round(self.scroll_y) + y
        base = self.rich_style
        if number >= self._count:
            return Strip.blank(width, base)
        here = self._has_cursor and number == self.cursor
        if here and self.has_focus:  # one colour: the others cannot be read on it
            segments = [Segment(part.text, base + _CURSOR) for part in self._line_of(number)]
            return Strip(segments).crop_extend(self._aside, self._aside + width, base + _CURSOR)
        segments = [Segment(part.text, base + STYLES[part.role]) for part in self._line_of(number)]
        strip = Strip(segments).crop_extend(self._aside, self._aside + width, base)
        return strip.apply_style(_WEAK_CURSOR) if here else strip

    def on_resize(self) -> None:
        """Keep the cursor visible."""
        self.follow_cursor()

    def on_focus(self) -> None:
        """Show that the cursor is here."""
        self._refresh_row(self.cursor)

    def on_blur(self) -> None:
        """Show that the cursor is elsewhere."""
        self._refresh_row(self.cursor)

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to a line that was clicked; a second click chooses it."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        number = round(self.scroll_y) + offset.y
        if number < self._count:
            again = number == self.cursor
            self.move_to(number)
            if again or event.chain > 1:
                self.action_choose()

    def action_move(self, step: int) -> None:
        """Move the cursor, or scroll, by some lines."""
        if self._has_cursor:
            self.move_to(self.cursor + step)
        else:
            self.scroll_to(y=self.scroll_y + step, animate=False, immediate=True)

    def action_page(self, step: int) -> None:
        """Move the cursor, or scroll, by some pages."""
        self.action_move(step * max(1, self.scrollable_content_region.height - 1))

    def action_first(self) -> None:
        """Go to the first line."""
        self.action_move(-self._count)

    def action_last(self) -> None:
        """Go to the last line."""
        self.action_move(self._count)

    def action_aside(self, step: int) -> None:
        """Scroll to the right or to the left, where lines are longer than the widget is wide."""
        self._aside = max(0, self._aside + step * _STEP_ASIDE)
        self.refresh()

    def action_choose(self) -> None:
        """Say that the line of the cursor was chosen."""
        if self._has_cursor and self._count:
            self.post_message(self.Chosen(self, self.cursor))

    def _refresh_row(self, number: int) -> None:
        y = number - round(self.scroll_y)
        if 0 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))
