"""Deleting layers that nothing holds, and finishing what was cut short."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from layerstore_core.errors import keeping_done
from layerstore_core.log import logger
from layerstore_core.records.deletion import InterruptedDeletion
from layerstore_core.records.transaction import StaleTransaction
from layerstore_core.store.catalog import Catalog
from layerstore_core.store.context import StoreContext
from layerstore_core.store.nodes import LayerNode, RemovedLayer


def delete_unreferenced(context: StoreContext, node: LayerNode) -> list[RemovedLayer]:
    """Delete a layer if nothing holds it, then its parent, and so on.

    Returns:
        What was deleted, the layer first.

    Raises:
        OSError: a deletion could not be begun, and the layer is as it was; or the driver could not finish it,
            and `LayerDB.removing` lists what is left. What was deleted before is the error's `done`.
    """
    catalog = context.catalog
    removed: list[RemovedLayer] = []
    with keeping_done(removed):
        current: LayerNode | None = node
        while current is not None:
            record, size = current.record, current.chain_size
            with catalog.lock_unreferenced(current) as may_go:
                if not may_go:
                    break
                # The record is renamed first: from then on the layer does not exist, and what is left of
                # it is known as a deletion to be finished, whatever happens to the driver's part.
                with catalog.changing():
                    deletion = context.db.begin_deletion(record.chain_id)
                catalog.remove_layer(current, deletion.path)
            with deletion:
                context.driver.remove(record.cache_id)
                deletion.finish()
            logger.info("deleted layer {}, {} bytes of files", record.chain_id, record.size)
            removed.append(RemovedLayer(record.chain_id, record.diff_id, size, record.size))
            current = current.parent
    return removed


def unreferenced_closure(catalog: Catalog, *, ignore_unreadable: bool = False) -> list[LayerNode]:
    """The layers that nothing holds, and those that nothing else than these hold; children first.

    None as long as something cannot be read that may hold any layer, unless that is to be ignored.
    """
    with catalog.lock:
        if not ignore_unreadable and catalog.unreadable():
            return []
        nodes = catalog.layers().values()
        children = {node.record.chain_id: len(node.children) for node in nodes}
        doomed: list[LayerNode] = []
        pending = [node for node in nodes if not catalog.is_referenced(node)]
        while pending:
            node = pending.pop()
            doomed.append(node)
            parent = node.parent
            if parent is not None:
                children[parent.record.chain_id] -= 1
                if not children[parent.record.chain_id] and not catalog.is_referenced(parent, by_children=False):
                    pending.append(parent)
        return doomed


def finish_deletion(context: StoreContext, orphan: InterruptedDeletion) -> None:
    """Finish one deletion, unless another process is at it.

    Raises:
        OSError: it could not be finished.
    """
    deletion = context.db.resume_deletion(orphan)
    if deletion is not None:
        with deletion:
            if orphan.cache_id is not None:
                context.driver.remove(orphan.cache_id)
            deletion.finish()


def remove_stale_transaction(context: StoreContext, dead: StaleTransaction) -> bool:
    """Remove what a dead process was making.

    Returns:
        Whether there was still something to be removed.

    Raises:
        OSError: it could not be removed.
    """
    with context.db.removing_stale(dead) as still_there:
        if still_there:
            for driver_id in dead.driver_ids:
                context.driver.remove(driver_id)
    return still_there


def recover(context: StoreContext) -> None:
    """Do what is certainly safe: finish deletions, drop dead transactions, unmount what dead processes had mounted.

    What cannot be done is logged, and left for the next time.
    """
    for orphan in context.db.interrupted_deletions():
        if _attempt(partial(finish_deletion, context, orphan), f"{orphan.path}: the deletion could not be finished"):
            logger.info("{}: finished a deletion that was cut short", orphan.path)
    for dead in context.db.stale_transactions():
        if _attempt(
            partial(remove_stale_transaction, context, dead), f"{dead.path}: the dead transaction could not be removed"
        ):
            logger.info("{}: removed what a dead process was making", dead.path)
    driver = context.driver
    _attempt(driver.adopt_mounts, "what is mounted, as an earlier version has written it down, cannot be told")
    for layer_id in driver.stale_mounts():
        if _attempt(partial(driver.unmount_stale, layer_id), f"layer {layer_id} of the driver could not be unmounted"):
            logger.info("unmounted {}, which a dead process had mounted", layer_id)


def _attempt(action: Callable[[], object], failure: str) -> bool:
    try:
        action()
    except Exception as error:  # a driver may fail in any way, and the store is to be opened all the same
        logger.error("{}: {}", failure, error)
        return False
    return True
