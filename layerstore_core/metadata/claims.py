"""What damaged records stand on: layers that have to stay until somebody has mended or removed the record.

A record that cannot be loaded is no child of any layer, as far as the catalog goes. Were its parent deleted
for that, a damaged byte in a small file would cost the content of a whole chain.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from layerstore_core.digests import ChainID, DiffID, chain_id
from layerstore_core.metadata.records import driver_ids, read_digest


def claimed_parents(records: Iterable[Path], known: Iterable[ChainID]) -> dict[Path, ChainID | None]:
    """The layers that damaged records stand on.

    Args:
        records: the directories of the damaged records, layers' and writable layers'.
        known: the layers that can be loaded.

    Returns:
        By record, the parent; `None` where it may be any. Records without a parent are left out, and those
        that name nothing in the driver: there is nothing to be saved.
    """
    layers = list(known)
    found: dict[Path, ChainID | None] = {}
    for record in records:
        parent = read_digest(ChainID, record / "parent")
        if parent is not None:
            found[record] = parent
        elif record.parent.name == "mounts" and not os.path.lexists(record / "parent"):
            continue
        elif (diff_id := read_digest(DiffID, record / "diff")) is not None:
            # The name of the record tells which parent makes it.
            for layer in layers:
                if chain_id(diff_id, layer).hex == record.name:
                    found[record] = layer
        elif driver_ids(record):
            found[record] = None
    return found
