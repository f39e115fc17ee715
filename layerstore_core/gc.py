"""Garbage: what nothing refers to any more, and how to be rid of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from layerstore_core.removing import finish_removing, remove_dead
from layerstore_core.store import LayerStore


@dataclass(frozen=True, slots=True)
class Removed:
    """Something that was collected, or would be.

    Attributes:
        kind: `"layer"`, `"unfinished removal"`, `"dead transaction"` or `"stray driver layer"`.
        name: the chain ID, the path, or the driver's ID.
        bytes: how much it took, as far as that is recorded.
    """

    kind: str
    name: str
    bytes: int


def collect_garbage(store: LayerStore, *, dry_run: bool = False) -> list[Removed]:
    """Remove layers that no pin, handle, child or writable layer holds, and what was left half done.

    Safe beside running processes: what they hold or are making is left alone.

    Args:
        store: an open store.
        dry_run: say what would go, and leave it.

    Returns:
        What went, children before their parents.

    Raises:
        OSError: something could not be removed; what went before stays gone.
    """
    removed = []
    for orphan in store.db.removing():
        removed.append(Removed("unfinished removal", str(orphan.path), _size(orphan.path)))
        if not dry_run:
            finish_removing(store.db, store.driver, orphan)
    for dead in store.db.dead_transactions():
        found = Removed("dead transaction", str(dead.path), _size(dead.path))
        if dry_run or remove_dead(store.db, store.driver, dead):
            removed.append(found)
    for layer in store.unheld_layers():
        if dry_run:
            removed.append(Removed("layer", layer.chain_id, layer.diff_size))
        else:
            removed += [Removed("layer", gone.chain_id, gone.diff_size) for gone in store.collect(layer)]
    if not dry_run:
        store.cleanup()
    return removed


def _size(path: Path) -> int:
    total = 0
    for where, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except FileNotFoundError:  # another collector is at it
                continue
    return total
