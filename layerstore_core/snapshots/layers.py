"""The driver's IDs of the layers that snapshots are on.

A repair may have made a layer of the store again, as another layer of the driver. So its ID is looked up each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerstore_core.base.digests import ChainID
    from layerstore_core.records.snapshots.rows import SnapshotRow
    from layerstore_core.store.context import StoreContext


def layer_id(store: StoreContext, row: SnapshotRow) -> str:
    """Return the driver's ID of a snapshot's layer, `""` for a view without one."""
    return _current(store, row.driver_id, row.chain_id)


def parent_layer_id(store: StoreContext, row: SnapshotRow) -> str:
    """Return the driver's ID of the layer of a snapshot's parent, `""` for none."""
    return _current(store, row.parent_driver_id, row.parent_chain_id)


def _current(store: StoreContext, recorded: str, chain: ChainID | None) -> str:
    return recorded if chain is None else store.db.cache_id(chain) or recorded
