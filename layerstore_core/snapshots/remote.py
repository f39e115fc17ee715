"""Snapshots that are layers of the store: what was pulled into it needs no download and no unpacking.

An engine asks for such a snapshot by a label in `prepare` (containerd, `pkg/snapshotters` and `metadata/snapshot.go`):
the chain ID of the layer that it is about to unpack. The answer is that there is a snapshot already; the engine then
looks for a committed one with this label and this parent, whatever its key.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from layerstore_core.base.digests import ChainID
from layerstore_core.errors import LayerStoreError, SnapshotExists
from layerstore_core.log import logger
from layerstore_core.records.snapshots import rows
from layerstore_core.snapshots.create import committed_parent
from layerstore_core.snapshots.owner import Owner, now
from layerstore_core.store.handles import live_layer, open_layer

if TYPE_CHECKING:
    from sqlite3 import Connection

    from layerstore_core.records.snapshots.rows import SnapshotRow
    from layerstore_core.store.nodes import LayerNode

#: The label by which an engine says which layer it is about to unpack.
TARGET_LABEL: Final = "containerd.io/snapshot.ref"


def offer(owner: Owner, key: str, parent: str, labels: Mapping[str, str]) -> None:
    """Make a committed snapshot of a layer of the store, if the labels ask for one that the store has.

    Args:
        owner: the snapshots.
        key: the key that the caller would have unpacked into.
        parent: the key of the parent, `""` for none.
        labels: the labels of the request.

    Raises:
        SnapshotExists: there is such a snapshot now, with the label and the parent of the request; or the key is taken.
        SnapshotDoesNotExist, InvalidSnapshot: as `create.create`.
    """
    target = _chain_in(labels)
    if target is None:
        return
    try:
        layer = open_layer(owner.store, target)
    except (LayerStoreError, OSError) as error:
        logger.warning("layer {} of the store is not offered as a snapshot: {}", target, error)
        return
    if layer is None:
        return
    # The handle keeps the layer until the record refers to it: see `Catalog`.
    with layer:
        node = live_layer(layer)
        if not owner.store.driver.exists(node.record.cache_id):
            logger.warning("layer {} is not offered as a snapshot: the driver has lost it", target)
            return
        row = owner.journal.write(lambda database: _add(database, key, parent, labels, node))
    if row is not None:
        raise SnapshotExists(f"layer {target} is in the store: the snapshot {row.key!r} is that layer")


def _chain_in(labels: Mapping[str, str]) -> ChainID | None:
    try:
        return ChainID(labels[TARGET_LABEL])
    except (KeyError, ValueError):
        return None


def _add(database: Connection, key: str, parent: str, labels: Mapping[str, str], node: LayerNode) -> SnapshotRow | None:
    """Add the snapshot, or return the one that there is; `None` where the parent is not that of the layer."""
    parent_row = committed_parent(database, parent)
    if (other := rows.find(database, key)) is not None and other.state == rows.READY:
        raise SnapshotExists(f"there is a snapshot {key!r} already")
    wanted = node.record.parent
    if not _stands_for(parent_row, wanted):
        return None
    chain = node.record.chain_id
    known = rows.find_remote(database, chain, parent_row.number if parent_row is not None else None)
    if known is not None and known.labels.get(TARGET_LABEL) == chain:
        return known
    return rows.insert(
        database,
        key=f"layerstore/{secrets.token_hex(8)}/{chain}",
        parent=parent_row,
        kind=rows.COMMITTED,
        state=rows.READY,
        driver_id=node.record.cache_id,
        labels=labels,
        now=now(),
        chain_id=chain,
        depth=node.depth,
    )


def _stands_for(parent: SnapshotRow | None, layer: ChainID | None) -> bool:
    """Return whether a snapshot has the content of a layer; `None` stands for none."""
    if parent is None or layer is None:
        return parent is None and layer is None
    # An engine commits a layer under a name that ends in its chain ID. Nothing proves that it is that layer, but for
    # the engine it is.
    return layer in (parent.chain_id, parent.key) or parent.key.endswith(f"/{layer}")
