"""The keys of the program, as its help shows them and as the documents list them."""

from __future__ import annotations

from typing import Final

from layerstore_core.explore.lines import Line, Part, Role

COMMON: Final = (
    ("Moving", ""),
    ("j k, ↓ ↑", "next line, previous line"),
    ("d u, PgDn PgUp", "next page, previous page"),
    ("g G, Home End", "first line, last line"),
    ("< >, Shift+← →", "sideways, where lines are longer than the window"),
    ("Tab, Shift+Tab", "next part of the screen, previous part"),
    ("?", "these keys"),
    ("q, Ctrl+C", "close, quit"),
)
TREE: Final = (
    ("The tree", ""),
    ("Space", "open or close a directory"),
    ("l h, → ←", "open, or go in; close, or go up"),
    ("z, Ctrl+Space", "close all directories, or open all"),
    ("Enter", "open a file, or a directory"),
    ("n N", "next change, previous change"),
    ("/, Ctrl+F", "filter; Esc shows all again"),
    ("a r m M U", "hide or show added, deleted, changed, moved, unchanged files (Ctrl+A, Ctrl+R, Ctrl+U)"),
    ("b, Ctrl+B", "hide or show modes and owners"),
    ("s", "sort by size, or by name"),
    ("f", "all about a file"),
    ("w", "which layers a path comes from"),
    ("e, Ctrl+E", "export: copy to the host"),
)
IMAGE: Final = (
    ("Layers", ""),
    ("L, Ctrl+L", "show what the layer has changed"),
    ("W", "show all up to the layer, with its changes marked"),
    ("B", "the same, with the changes since the base layer marked (Ctrl+A in the list of layers)"),
    ("c", "compare with another layer, or with an image"),
    ("1 2 3 4 5, [ ]", "totals, waste, duplicates, packages, config"),
    ("i", "hide or show the part below"),
)
STORE: Final = (
    ("The store", ""),
    ("Enter", "explore the layer, or the image that it is the top of"),
    ("C", "what gc would remove, and remove it"),
    ("P", "what prune would remove, and remove it"),
    ("R", "read the store again"),
)
READING: Final = (
    ("Reading a file", ""),
    ("x", "hex digits, or text"),
    ("/", "search; n N next, previous"),
)


def help_lines(*groups: tuple[tuple[str, str], ...]) -> list[Line]:
    """Return groups of keys as lines."""
    lines: list[Line] = []
    for group in groups:
        for keys, text in group:
            lines.append((Part(f"  {keys:<18}", Role.LINK), Part(text)) if text else (Part(keys, Role.HEADING),))
        lines.append(())
    return lines
