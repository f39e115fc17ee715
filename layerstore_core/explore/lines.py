"""Lines of text whose parts have a role; the program gives each role a colour, and plain text leaves roles out."""

from __future__ import annotations

import os
from enum import Enum
from typing import NamedTuple, TypeAlias

from layerstore_core.text import printable


class Role(Enum):
    """What a part of a line is."""

    TEXT = "text"
    FAINT = "faint"
    HEADING = "heading"
    DIRECTORY = "directory"
    LINK = "link"
    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"
    MOVED = "moved"
    BAR = "bar"
    ERROR = "error"


class Part(NamedTuple):
    """A part of a line.

    Attributes:
        text: the text, which is safe to print.
        role: what it is.
    """

    text: str
    role: Role = Role.TEXT


#: A line, from left to right.
Line: TypeAlias = tuple[Part, ...]


def plain(line: Line) -> str:
    """Return a line as text, without blanks at its end."""
    return "".join(part.text for part in line).rstrip()


def shown(name: bytes) -> str:
    """Return the name or path of a file as text that can mislead neither a terminal nor a reader."""
    return printable(os.fsdecode(name))


def shown_path(path: bytes) -> str:
    """Return a path, which is relative to the root of an image, with a slash at its beginning."""
    return "/" + shown(path)


def share_of(part: int, whole: int) -> str:
    """Return a share in percent: `12%`; `<1%` for one that is not nothing and would be rounded to it."""
    if not part or not whole:
        return "0%"
    percent = 100 * part / whole
    return "<1%" if percent < 0.5 else f"{percent:.0f}%"


def bar(part: int, whole: int, width: int) -> str:
    """Return a bar whose filled length is the share of a part; something is filled if the part is not nothing."""
    filled = min(width, max(round(width * part / whole), 1)) if part and whole else 0
    return "█" * filled + "░" * (width - filled)
