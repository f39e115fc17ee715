"""The data of a page: a document in which texts mislead no reader, and lists are no longer than the page should be.

It has the fields of the document, but `image.tree` is folded (see `layerstore_core.report.page.fold`), and lists may be
shorter. `left_out` then says by how many entries, and `version` is that of the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from layerstore_core._version import __version__
from layerstore_core.report.page.fold import fold, length_of
from layerstore_core.text import printable

#: The most characters of all data, and of the tree in it: a page has less than a million bytes.
_MOST: Final = 880_000
_MOST_OF_TREE: Final = 600_000
#: The most characters of each list, and how its entries are sorted before it is cut.
_LISTS: Final[dict[str, tuple[int, Any]]] = {
    "image.places": (15_000, None),
    "image.wasted_files": (50_000, None),
    "image.duplicates": (40_000, None),
    "image.packages": (90_000, None),
    "image.history": (60_000, None),
    "comparison.files": (150_000, lambda one: -abs((one["after"] or 0) - (one["before"] or 0))),
    "comparison.packages": (50_000, None),
    "comparison.config": (20_000, None),
    "store.images": (300_000, None),
    "store.layers": (200_000, lambda one: -one["diff_size"]),
    "store.rw_layers": (60_000, None),
    "store.snapshots": (100_000, None),
}
#: The most characters of a text, the fewest that a command is cut to, and the most of all layers together: an escaped
#: character counts as six.
_LONGEST: Final = 2000
_SHORTEST: Final = 150
_ALL_LAYERS: Final = 150_000
#: The most paths that a duplicate file is shown with.
_PATHS: Final = 20
_DEEPEST: Final = 12


def page_data(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a document's page.

    Args:
        document: from `layerstore_core.report.document`; it is not changed.
    """
    left_out: dict[str, int] = {}
    found: dict[str, Any] = {"version": __version__}
    trees = []
    for key, value in document.items():
        if key not in ("image", "comparison", "store", "before"):
            found[key] = shown(value)
            continue
        part = found[key] = {}
        for name, inner in value.items():
            path = f"{key}.{name}"
            if path == "image.tree":
                trees.append((part, inner))
            elif path in _LISTS:
                part[name] = _shortened(path, inner, left_out)
            elif path == "image.config":
                part[name] = _config(inner, left_out)
            elif path == "image.layers":
                part[name] = _layers(inner)
            else:
                part[name] = shown(inner)
    for part, tree in trees:
        part["tree"], count = fold(tree, min(_MOST_OF_TREE, _MOST - length_of(found)))
        if count:
            left_out["image.tree"] = count
    found["left_out"] = left_out
    return found


def _shortened(path: str, rows: list[Any], left_out: dict[str, int]) -> list[Any]:
    """Return the first rows of a list, as many as fit."""
    left, key = _LISTS[path]
    found = []
    for row in rows if key is None else sorted(rows, key=key):
        if path == "image.duplicates" and len(row["paths"]) > _PATHS:
            row = {**row, "paths": row["paths"][:_PATHS], "more": len(row["paths"]) - _PATHS}
        one = shown(row)
        left -= length_of(one) + 1
        if left < 0:
            break
        found.append(one)
    if len(found) < len(rows):
        left_out[path] = len(rows) - len(found)
    return found


def _layers(layers: list[Any]) -> list[Any]:
    """Return all layers: they are counted by their index. If there are very many, their commands are short."""
    longest = _LONGEST
    while True:
        found = [{key: shown(value, longest=longest) for key, value in layer.items()} for layer in layers]
        if longest < _SHORTEST or length_of(found) <= _ALL_LAYERS:
            return found
        longest //= 2


def _config(config: Mapping[str, Any], left_out: dict[str, int]) -> dict[str, Any]:
    """Return what of a config is for people: not its history and layers, which the page has elsewhere."""
    found: dict[str, Any] = {}
    left = 40_000
    for key, value in config.items():
        if key in ("history", "rootfs"):
            continue
        one = shown(value)
        left -= length_of({key: one})
        if left >= 0:
            found[shown(key)] = one
        else:
            left_out["image.config"] = left_out.get("image.config", 0) + 1
    return found


def shown(value: Any, *, longest: int = _LONGEST, depth: int = 0) -> Any:
    """Return a JSON value in which no text has characters that cannot be seen, and none is very long.

    Args:
        value: the value.
        longest: the most characters of a text.
        depth: how deep it is in another one: very deep ones are left out.
    """
    if isinstance(value, str):
        if len(value) > longest:
            value = value[: max(longest - 1, 0)] + "…"
        return printable(" ".join(value.split()) if "\n" in value or "\t" in value else value, backslash=False)
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {shown(str(key)): shown(one, longest=longest, depth=depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(one, longest=longest, depth=depth + 1) for one in value]
    return value
