"""Rebuild a damaged layer from its tar: as a new layer of the driver, which replaces the damaged one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO

from layerstore_core.base.digests import ChainID, DiffID, chain_id
from layerstore_core.errors import BadRecord, LayerDoesNotExist, LayerStoreError
from layerstore_core.log import logger
from layerstore_core.maintenance.check_driver import recorded_layers
from layerstore_core.maintenance.repair_source import RepairSource
from layerstore_core.maintenance.snapshots.check import recorded_snapshot_layers
from layerstore_core.records.layer_record import read_digest
from layerstore_core.store.handles import live_layer
from layerstore_core.store.parentage import other_parent
from layerstore_core.store.registration.chain import LayerInput
from layerstore_core.store.registration.layer import Registration
from layerstore_core.store.store import LayerStore
from layerstore_core.streams.source import LayerSource


def rebuild_layer(store: LayerStore, chain: ChainID, source: RepairSource) -> str:
    """Rebuild a layer from a repair source, and put the damaged record into quarantine; its files stay.

    Its children are attached to the new layer. Mounts of the damaged layer keep showing it until they are unmounted.

    Returns:
        What was done, in a sentence; empty where the source does not have this layer, or its parent is missing.

    Raises:
        InvalidLayer, OSError: it could not be rebuilt; everything is as it was.
    """
    wanted = _wanted(store, chain, source)
    if wanted is None:
        return ""
    diff_id, parent = wanted
    if not _rebuild(store, chain, diff_id, parent, lambda: source.open(diff_id)):
        return ""
    return f"rebuilt from {source.path}; the damaged layer is in {store.context.quarantine.path}"


def register_again(store: LayerStore, chain: ChainID, source: RepairSource) -> str:
    """Register a layer whose record is lost, from a repair source; answer and errors as `rebuild_layer`."""
    wanted = _wanted(store, chain, source)
    if wanted is None:
        return ""
    diff_id, parent = wanted
    tar = LayerInput(lambda: source.open(diff_id), diff_id, f"layer {chain}")
    store.register_chain([tar], parent or "").close()
    return f"registered again from {source.path}"


def rebuild_from_own_tar(store: LayerStore, chain: ChainID) -> str:
    """Rebuild a layer whose files are not what its tar makes, from its own tar; answer as `rebuild_layer`.

    Raises:
        IntegrityError, OSError: the tar is not whole; everything is as it was.
    """
    layer = store.find(chain)
    if layer is None or not _rebuild(store, chain, layer.diff_id, layer.parent_id, layer.tar_stream):
        return ""
    return (
        "its files are rebuilt from its tar, which has the right digest; "
        f"the former ones are in {store.context.quarantine.path}"
    )


def _rebuild(
    store: LayerStore, chain: ChainID, diff_id: DiffID, parent: ChainID | None, open_tar: Callable[[], BinaryIO]
) -> bool:
    with ExitStack() as stack:
        parent_layer = None
        if parent is not None:
            try:
                parent_layer = stack.enter_context(store.get(parent))
            except (LayerStoreError, OSError):
                return False
        flush = stack.enter_context(store.context.flushing())
        new = stack.enter_context(
            Registration(store.context.db, store.driver, live_layer(parent_layer).as_parent if parent_layer else None)
        )
        with (
            open_tar() as file,
            LayerSource(
                file, spool_dir=store.context.scratch_directory(), limits=store.context.limits, allow_empty=True
            ) as source,
        ):
            applied = new.apply(source)
        if applied.diff_id != diff_id:
            return False
        new.write_record(applied, _descriptor(store, chain))
        flush()
        quarantine = store.context.quarantine
        with store.context.changing_records() as db:
            new.replace(db.layer_path(chain), lambda old: quarantine.put(old, f"layer-{chain.hex[:12]}"))
    _reattach_children(store, new.cache_id)
    return True


def _reattach_children(store: LayerStore, cache_id: str) -> None:
    """Attach the children of a layer that was rebuilt to the new one, which has the same content."""
    ids = {cache_id}
    for child in (*recorded_layers(store), *recorded_snapshot_layers(store)):
        if child.parent_id not in ids:
            continue
        ids.add(child.layer_id)
        try:
            if other_parent(store.context, child.layer_id, child.parent_id) is None and store.driver.check_layer(
                child.layer_id, child.parent_id
            ):
                store.driver.repair_layer(child.layer_id, child.parent_id, proved=True)
        except (BadRecord, OSError) as error:
            logger.error("layer {} of the driver could not be repaired: {}", child.layer_id, error)


def _wanted(store: LayerStore, chain: ChainID, source: RepairSource) -> tuple[DiffID, ChainID | None] | None:
    """Return the diff ID and the parent of a chain ID, if the source has such a layer."""
    directory = store.context.db.layer_path(chain)
    recorded = read_digest(DiffID, directory / "diff")
    parents = [read_digest(ChainID, directory / "parent"), None, *store.layers()]
    for diff_id in [recorded, *source.diff_ids()]:
        if diff_id is not None and diff_id in source:
            for parent in parents:
                if chain_id(diff_id, parent) == chain:
                    return diff_id, parent
    return None


def _descriptor(store: LayerStore, chain: ChainID) -> Mapping[str, Any] | None:
    try:
        with store.get(chain) as layer:
            return layer.descriptor
    except (LayerDoesNotExist, LayerStoreError, OSError):
        return None
