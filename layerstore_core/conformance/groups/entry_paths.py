"""Cases for the path of an entry: what a parent has there, and the tree that the layer has to show.

The rules are those of `apply_diff` in the contract: a link to a directory is followed, any other file is replaced by a
directory. `EXPECTED` has each parent with each layer on it.
"""

from __future__ import annotations

from typing import Final

from layerstore_core.conformance.tars import Item, directory, file, hard_link, opaque, special, symlink, whiteout
from layerstore_core.tar.entry import EntryType

#: The parents whose file `a` a directory replaces.
_REPLACED: Final[dict[str, list[Item]]] = {
    "a-file": [file(b"a", b"old")],
    "a-file-of-two-names": [file(b"twin", b"old"), hard_link(b"a", b"twin")],
    "a-fifo": [special(b"a", EntryType.FIFO)],
    "a-link-to-a-file": [file(b"twin", b"old"), symlink(b"a", b"twin")],
    "a-link-to-nothing": [symlink(b"a", b"no/where")],
    "a-link-out": [symlink(b"a", b"../../etc/no/where")],
    "a-loop": [symlink(b"a", b"b"), symlink(b"b", b"a")],
}
#: The parents whose link `a` to a directory is followed.
_FOLLOWED: Final[dict[str, list[Item]]] = {
    "a-link": [directory(b"real"), file(b"real/old", b"old"), symlink(b"a", b"real")],
    "an-absolute-link": [directory(b"real"), file(b"real/old", b"old"), symlink(b"a", b"/real")],
    "a-link-to-a-link": [
        directory(b"real"),
        file(b"real/old", b"old"),
        symlink(b"a", b"b"),
        symlink(b"b", b"./real/."),
    ],
}
#: The layers, with the names in `a` that each layer adds and that it deletes.
_LAYERS: Final[dict[str, tuple[list[Item], set[bytes], set[bytes]]]] = {
    "a-file": ([file(b"a/new", b"x")], {b"new"}, set()),
    "a-file-deep-down": ([file(b"a/d/e/new", b"x")], {b"d", b"d/e", b"d/e/new"}, set()),
    "a-directory": ([directory(b"a/new", mode=0o700)], {b"new"}, set()),
    "a-link": ([symlink(b"a/new", b"anywhere")], {b"new"}, set()),
    "a-hard-link": ([file(b"a/new", b"x"), hard_link(b"a/too", b"a/new")], {b"new", b"too"}, set()),
    "a-whiteout": ([whiteout(b"a/old")], set(), {b"old"}),
    "a-device-that-deletes": ([special(b"a/old", EntryType.CHAR)], set(), {b"old"}),
    "an-opaque-whiteout": ([opaque(b"a"), file(b"a/new", b"x")], {b"new"}, {b"old"}),
}


def _names(items: list[Item]) -> set[bytes]:
    return {item.entry.name.rstrip(b"/") for item in items}


def _expected() -> dict[str, list[tuple[str, list[Item], list[Item], set[bytes]]]]:
    found: dict[str, list[tuple[str, list[Item], list[Item], set[bytes]]]] = {}
    for old, parent in (*_REPLACED.items(), *_FOLLOWED.items()):
        target = b"real/" if old in _FOLLOWED else b"a/"
        for new, (layer, added, deleted) in _LAYERS.items():
            names = _names(parent) | {target + name for name in added}
            found.setdefault(old, []).append((new, parent, layer, names - {target + name for name in deleted}))
    return found


#: By the parent's file `a`: a list of cases. Each has the layer's name, the parent, the layer, and the names that show.
EXPECTED: Final = _expected()
#: The parents whose `a` is a link to a directory.
FOLLOWED: Final = frozenset(_FOLLOWED)
