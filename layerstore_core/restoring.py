"""Restoring: what is on disk becomes known to an open store, and what cannot be loaded is reported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerstore_core.digests import ChainID
from layerstore_core.errors import LayerStoreError
from layerstore_core.metadata import LayerDB, Pins

if TYPE_CHECKING:
    from layerstore_core.driver.bound import BoundDriver
    from layerstore_core.references import LayerNode, References


@dataclass(frozen=True, slots=True)
class Problem:
    """Something on disk that could not be loaded.

    Attributes:
        path: the file or directory concerned.
        reason: what is wrong with it.
    """

    path: str
    reason: str


def restore(db: LayerDB, pins: Pins, references: References) -> list[Problem]:
    """Load all layers and writable layers.

    Returns:
        What could not be loaded. A layer whose parent is damaged is left out with it.
    """
    problems: list[Problem] = []
    for name in db.list_layers():
        try:
            restore_layer(db, pins, references, name)
        except (LayerStoreError, OSError) as error:
            problems.append(_problem(db.layer_path(name), error))
    for mount in db.list_mounts():
        try:
            record = db.read_mount(mount)
            parent = None
            if record.parent is not None:
                parent = restore_layer(db, pins, references, record.parent)
            references.add_mount(record, parent)
        except (LayerStoreError, OSError) as error:
            problems.append(_problem(db.mount_path(mount), error))
    return problems


def restore_layer(db: LayerDB, pins: Pins, references: References, name: ChainID) -> LayerNode:
    """Load a layer and, before it, the parents it needs.

    Raises:
        BadRecord: a record of the chain is damaged.
        OSError: a record cannot be read.
    """
    # A chain is walked down to what is known, then loaded upwards: no recursion, however deep it is.
    missing = []
    seen: set[ChainID] = set()
    wanted: ChainID | None = name
    while wanted is not None and wanted not in references.layers:
        if wanted in seen:
            raise LayerStoreError(f"layer {wanted} is its own ancestor")
        seen.add(wanted)
        record = db.read(wanted)
        missing.append(record)
        wanted = record.parent
    node = references.layers[wanted] if wanted is not None else None
    for record in reversed(missing):
        node = references.add_layer(record, node, pinned=record.chain_id in pins)
    assert node is not None
    return node


def _problem(path: os.PathLike[str] | str, error: Exception) -> Problem:
    return Problem(str(getattr(error, "path", None) or getattr(error, "filename", None) or path), str(error))
