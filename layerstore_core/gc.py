"""Garbage: what nothing refers to any more, and how to be rid of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from layerstore_core.store import LayerStore


@dataclass(frozen=True, slots=True)
class Removed:
    """Something that was collected, or would be.

    Attributes:
        kind: `"layer"`, `"unfinished removal"` or `"dead transaction"`.
        name: the chain ID, or the path.
        bytes: how much it took, as far as that is recorded.
    """

    kind: str
    name: str
    bytes: int


def collect_garbage(store: LayerStore, *, dry_run: bool = False) -> list[Removed]:
    """Remove layers that no pin, handle, child or writable layer holds, and what was left half done.

    Args:
        store: an open store.
        dry_run: say what would go, and leave it.

    Returns:
        What went, children before their parents.
    """
    removed = [Removed("unfinished removal", str(orphan.path), _size(orphan.path)) for orphan in store.db.removing()]
    removed += [Removed("dead transaction", str(path), _size(path)) for path in store.db.transactions()]
    if not dry_run:
        store.cleanup()
        for path in store.db.transactions():
            shutil.rmtree(path)
    garbage = store.unheld_layers()
    removed += [Removed("layer", layer.chain_id, layer.diff_size) for layer in garbage]
    if not dry_run:
        for layer in garbage:
            store.collect(layer)
    return removed


def _size(path: Path) -> int:
    return sum(os.lstat(os.path.join(where, name)).st_size for where, _, names in os.walk(path) for name in names)
