"""Folding the small files of a tree, so that what is left has at most a given length as JSON.

The rows of a folded tree are, parents first:

- `[depth, name]`: a directory; the root has depth 0;
- `[depth, name, size, layer]`: another file;
- `[depth, 0, size, layer, count]`: files of a layer, with all directories below, that were folded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from layerstore_core.text import printable

Row: TypeAlias = list[int | str]
#: The most characters of a row besides its name and size, and of a row for folded files.
_ROW: Final = 14
_FOLDED: Final = 40


class Folded(NamedTuple):
    """A tree with few enough rows.

    Attributes:
        rows: the rows, as this module describes them.
        left_out: how many files have no row of their own.
    """

    rows: list[Row]
    left_out: int


def fold(tree: Sequence[Mapping[str, Any]], most: int) -> Folded:
    """Return the rows of a tree: the largest files and directories, and what the others of a directory add up to.

    Args:
        tree: `image.tree` of a document.
        most: the most characters of the rows as JSON in ASCII, with each `<`, `>` and `&` as six of them.
    """
    parents = _parents(tree)
    names = [_name(one["path"]) for one in tree]
    keep = _kept(tree, parents, names, most)
    owners: list[int] = []
    folded: dict[int, dict[int, list[int]]] = {}
    left_out = 0
    for index, one in enumerate(tree):
        parent = parents[index]
        owners.append(index if keep[index] else owners[parent])
        if keep[index]:
            continue
        left_out += 1
        sums = folded.setdefault(owners[index], {}).setdefault(one["layer"], [0, 0])
        sums[0] += 0 if one["type"] == "directory" else one["size"]
        sums[1] += 1
    depths = [0] * len(tree)
    rows: list[Row] = []
    for index, one in enumerate(tree):
        if not keep[index]:
            continue
        depth = depths[index] = depths[parents[index]] + 1 if index else 0
        rows.append([depth, names[index]])
        if one["type"] != "directory":
            rows[-1] += [one["size"], one["layer"]]
        rows += [[depth + 1, 0, size, layer, count] for layer, (size, count) in sorted(folded.get(index, {}).items())]
    return Folded(rows, left_out)


def _kept(tree: Sequence[Mapping[str, Any]], parents: Sequence[int], names: Sequence[str], most: int) -> list[bool]:
    """Return of each file whether it has a row of its own: the largest have, as long as they fit."""
    lengths = [
        _ROW + length_of(name) + (0 if one["type"] == "directory" else len(str(one["size"])))
        for name, one in zip(names, tree, strict=True)
    ]
    if sum(lengths) <= most:
        return [True] * len(tree)
    #: The layers below each directory, as bits: each may become a row of what is folded.
    layers = [1 << one["layer"] for one in tree]
    for index in range(len(tree) - 1, 0, -1):
        layers[parents[index]] |= layers[index]
    keep = [False] * len(tree)
    left = most
    for index in sorted(range(len(tree)), key=lambda index: (-tree[index]["size"], index)):
        if index and not keep[parents[index]]:
            continue
        length = lengths[index]
        if tree[index]["type"] == "directory":
            length += _FOLDED * layers[index].bit_count()
        if index and length > left:
            break
        left -= length
        keep[index] = True
    return keep


def _parents(tree: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the index of each file's directory; 0 for the root."""
    indexes: dict[str, int] = {}
    parents = []
    for index, one in enumerate(tree):
        path = one["path"]
        parents.append(indexes[path.rpartition("/")[0]] if index else 0)
        if one["type"] == "directory":
            indexes["" if path == "/" else path] = index
    return parents


def _name(path: str) -> str:
    return printable(path.rpartition("/")[2] or "/", backslash=False)


def length_of(value: Any) -> int:
    """Return the length of a value as JSON in the page."""
    text = json.dumps(value, separators=(",", ":"))
    return len(text) + 5 * sum(text.count(one) for one in "<>&")
