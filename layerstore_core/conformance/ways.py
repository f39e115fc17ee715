"""What a parent has on the path of an entry, and the tree that has to come of it: links to directories are ways through.

The rules are those of `apply_diff` in the contract. `EXPECTED` holds each parent with each layer on it.
"""

from __future__ import annotations

from typing import Final

from layerstore_core.conformance.tars import Item, directory, file, hard_link, opaque, special, symlink, whiteout
from layerstore_core.tar.entry import EntryType

#: What a parent has at `a`, by what it is; and for links to a directory, where they lead.
_GIVES_WAY: Final[dict[str, list[Item]]] = {
    "a-file": [file(b"a", b"old")],
    "a-file-of-two-names": [file(b"twin", b"old"), hard_link(b"a", b"twin")],
    "a-fifo": [special(b"a", EntryType.FIFO)],
    "a-link-to-a-file": [file(b"twin", b"old"), symlink(b"a", b"twin")],
    "a-link-to-nothing": [symlink(b"a", b"no/where")],
    "a-link-out": [symlink(b"a", b"../../etc/no/where")],
    "a-loop": [symlink(b"a", b"b"), symlink(b"b", b"a")],
}
_LEADS_THROUGH: Final[dict[str, list[Item]]] = {
    "a-link": [directory(b"real"), file(b"real/old", b"old"), symlink(b"a", b"real")],
    "an-absolute-link": [directory(b"real"), file(b"real/old", b"old"), symlink(b"a", b"/real")],
    "a-link-to-a-link": [
        directory(b"real"),
        file(b"real/old", b"old"),
        symlink(b"a", b"b"),
        symlink(b"b", b"./real/."),
    ],
}
#: Layers on it; and which names below `a` they bring, and which they take.
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
    for old, parent in (*_GIVES_WAY.items(), *_LEADS_THROUGH.items()):
        target = b"real/" if old in _LEADS_THROUGH else b"a/"
        for new, (layer, brought, taken) in _LAYERS.items():
            names = _names(parent) | {target + name for name in brought}
            found.setdefault(old, []).append((new, parent, layer, names - {target + name for name in taken}))
    return found


#: By what the parent has at `a`: what a layer brings below it, the parent, the layer, and the names that it then shows.
EXPECTED: Final = _expected()
#: Where `a` leads to a directory.
LEADS_THROUGH: Final = frozenset(_LEADS_THROUGH)
