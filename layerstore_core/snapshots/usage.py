"""What snapshots take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerstore_core.errors import while_doing
from layerstore_core.records.snapshots import rows
from layerstore_core.snapshots.layers import layer_id, parent_layer_id
from layerstore_core.snapshots.model import SnapshotUsage
from layerstore_core.snapshots.owner import Owner

if TYPE_CHECKING:
    from layerstore_core.records.snapshots.rows import SnapshotRow


def usage_of(owner: Owner, key: str) -> SnapshotUsage:
    """Return what a snapshot takes. The caller has locked the key.

    Raises:
        SnapshotDoesNotExist: there is none of this key.
    """
    row = owner.find(key)
    if row.kind == rows.VIEW:
        return SnapshotUsage(0, 0)  # nothing can be written to it
    if row.kind == rows.COMMITTED and row.size is not None and row.inodes is not None:
        return SnapshotUsage(row.size, row.inodes)
    with while_doing(f"counting the files of the snapshot {key!r}"):
        size, inodes = owner.store.driver.usage(layer_id(owner.store, row), _compared_with(owner, row))
    if row.kind == rows.COMMITTED:  # a layer of the store, whose files were not counted before
        owner.journal.write(lambda database: rows.change(database, row.number, size=size, inodes=inodes), durable=False)
    return SnapshotUsage(size, inodes)


def _compared_with(owner: Owner, row: SnapshotRow) -> str:
    """Return the driver's ID of the layer below: for a layer of the store its own parent, else the snapshot's."""
    if row.chain_id is None:
        return parent_layer_id(owner.store, row)
    node = owner.store.catalog.find_layer(row.chain_id)
    return node.parent.record.cache_id if node is not None and node.parent is not None else ""
