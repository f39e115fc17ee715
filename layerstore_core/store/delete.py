"""Delete layers to which nothing refers, and finish interrupted deletions."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import partial

from layerstore_core.base.digests import ChainID
from layerstore_core.errors import keeping_done
from layerstore_core.log import logger
from layerstore_core.records.deletion import InterruptedDeletion
from layerstore_core.records.transaction import StaleTransaction
from layerstore_core.store.catalog import Catalog
from layerstore_core.store.context import StoreContext
from layerstore_core.store.nodes import LayerNode, RemovedLayer


def delete_unreferenced(
    context: StoreContext, node: LayerNode, only: Collection[ChainID] | None = None
) -> list[RemovedLayer]:
    """Delete a layer if nothing refers to it, then its parent, and so on.

    Args:
        context: an open store.
        node: the layer.
        only: the layers that may be deleted; `None` for all.

    Returns:
        The layers that were deleted, the given one first.

    Raises:
        OSError: a deletion could not begin, and the layer is as it was; or the driver could not finish it,
            and `LayerDB.interrupted_deletions` lists what is left. The error's `done` has the layers deleted before.
    """
    catalog = context.catalog
    removed: list[RemovedLayer] = []
    with keeping_done(removed):
        current: LayerNode | None = node
        while current is not None and (only is None or current.record.chain_id in only):
            record, size = current.record, current.chain_size
            with catalog.lock_unreferenced(current) as unreferenced:
                if not unreferenced:
                    break
                # The record is renamed first. From then on the layer does not exist, and its rest is known
                # as a deletion to be finished, whatever happens to the driver's part.
                with catalog.changing():
                    deletion = context.db.begin_deletion(record.chain_id)
                catalog.remove_layer(current, deletion.path)
            with deletion:
                context.driver.remove(record.cache_id)
                deletion.finish()
            context.last_used.forget(record.chain_id)
            logger.info("deleted layer {}, {} bytes of files", record.chain_id, record.size)
            removed.append(RemovedLayer(record.chain_id, record.diff_id, size, record.size))
            current = current.parent
    return removed


def unreferenced_closure(catalog: Catalog, *, ignore_unreadable: bool = False) -> list[LayerNode]:
    """Return the layers to which nothing refers, and those to which only such layers refer; children first.

    Return none as long as something cannot be read that may refer to any layer.

    Args:
        catalog: the layers of the store.
        ignore_unreadable: take no notice of what cannot be read.
    """
    with catalog.lock:
        if not ignore_unreadable and catalog.unreadable():
            return []
        nodes = catalog.layers().values()
        referenced = catalog.referenced(nodes)
        children = {node.record.chain_id: len(node.children) for node in nodes}
        found: list[LayerNode] = []
        pending = [node for node in nodes if not node.children and node.record.chain_id not in referenced]
        while pending:
            node = pending.pop()
            found.append(node)
            parent = node.parent
            if parent is not None:
                children[parent.record.chain_id] -= 1
                if not children[parent.record.chain_id] and parent.record.chain_id not in referenced:
                    pending.append(parent)
        return found


def finish_deletion(context: StoreContext, interrupted: InterruptedDeletion) -> None:
    """Finish an interrupted deletion, unless another process is at work on it.

    Raises:
        OSError: it could not be finished.
    """
    deletion = context.db.resume_deletion(interrupted)
    if deletion is not None:
        with deletion:
            if interrupted.cache_id is not None:
                context.driver.remove(interrupted.cache_id)
            deletion.finish()


def remove_stale_transaction(context: StoreContext, stale: StaleTransaction) -> bool:
    """Remove the unfinished work of a process that has ended.

    Returns:
        Whether there was still something to be removed.

    Raises:
        OSError: it could not be removed.
    """
    with context.db.removing_stale(stale) as still_there:
        if still_there:
            for driver_id in stale.driver_ids:
                context.driver.remove(driver_id)
    return still_there


def recover(context: StoreContext) -> None:
    """Do what is certainly safe: finish deletions, remove stale transactions, unmount what ended processes had mounted.

    A step that fails is logged, and left for the next time.
    """
    for interrupted in context.db.interrupted_deletions():
        if _attempt(
            partial(finish_deletion, context, interrupted), f"{interrupted.path}: the deletion could not be finished"
        ):
            logger.info("{}: finished an interrupted deletion", interrupted.path)
    for stale in context.db.stale_transactions():
        if _attempt(
            partial(remove_stale_transaction, context, stale),
            f"{stale.path}: the stale transaction could not be removed",
        ):
            logger.info("{}: removed the unfinished work of a process that has ended", stale.path)
    driver = context.driver
    _attempt(driver.adopt_mounts, "the list of mounts that an earlier version has written cannot be read")
    for layer_id in driver.stale_mounts():
        if _attempt(partial(driver.unmount_stale, layer_id), f"layer {layer_id} of the driver could not be unmounted"):
            logger.info("unmounted {}, which a process that has ended had mounted", layer_id)


def _attempt(action: Callable[[], object], failure: str) -> bool:
    try:
        action()
    except Exception as error:  # a driver may raise anything, and this must not prevent opening the store
        # A command that only reads runs outside of a user namespace. The next one that writes can remove these files.
        waits = isinstance(error, PermissionError) and os.geteuid() != 0
        (logger.info if waits else logger.error)("{}: {}", failure, error)
        return False
    return True
