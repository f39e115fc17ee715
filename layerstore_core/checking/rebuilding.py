"""Rebuilding a layer from its tar, which somebody offers: as a new layer of the driver, put in the damaged one's place."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from layerstore_core.archive.source import LayerSource
from layerstore_core.checking.driver import kept_layers
from layerstore_core.checking.offer import Offer
from layerstore_core.checking.quarantine import Quarantine
from layerstore_core.digests import ChainID, DiffID, chain_id
from layerstore_core.errors import LayerDoesNotExist, LayerStoreError
from layerstore_core.log import logger
from layerstore_core.metadata.records import read_digest
from layerstore_core.registering import Registration
from layerstore_core.store import LayerStore


def rebuild_layer(store: LayerStore, chain: ChainID, offer: Offer) -> str:
    """Make a layer anew from what is offered, and set the damaged one aside, record and files.

    Layers that stand on it are made to stand on the new one. What has it mounted keeps the old one until it unmounts.

    Returns:
        What was done, in a sentence; empty where the offer has not this layer, or it stands on one that is missing.

    Raises:
        InvalidLayer, OSError: it could not be made; all is as it was.
    """
    wanted = _wanted(store, chain, offer)
    if wanted is None:
        return ""
    diff_id, parent = wanted
    with ExitStack() as stack:
        below = None
        if parent is not None:
            try:
                below = stack.enter_context(store.get(parent))
            except (LayerStoreError, OSError):
                return ""
        flush = stack.enter_context(store.flushing())
        file = stack.enter_context(offer.open(diff_id))
        source = stack.enter_context(LayerSource(file, spool_dir=store.scratch_directory()))
        new = stack.enter_context(Registration(store.db, store.driver, below._live.below if below else None))
        new.apply(source)
        if new.diff_id != diff_id:
            return ""
        new.write_record(_descriptor(store, chain))
        flush()
        quarantine = Quarantine(store)
        with store.changing_records() as db:
            new.replace(db.layer_path(chain), lambda old: quarantine.put(old, f"layer-{chain.hex[:12]}"))
    mend_driver(store)
    return f"made anew from {offer.path}; the damaged layer is in {quarantine.path}"


def mend_driver(store: LayerStore) -> list[str]:
    """Let the driver mend each layer in which it finds something wrong, parents before their children."""
    done = []
    for kept in kept_layers(store):
        try:
            if store.driver.check_layer(kept.layer_id, kept.parent_id):
                done += store.driver.repair_layer(kept.layer_id, kept.parent_id)
        except OSError as error:
            logger.error("layer {} of the driver could not be mended: {}", kept.layer_id, error)
    return done


def _wanted(store: LayerStore, chain: ChainID, offer: Offer) -> tuple[DiffID, ChainID | None] | None:
    """Which of the offered layers a chain ID stands for, and on what."""
    directory = store.db.layer_path(chain)
    recorded = read_digest(DiffID, directory / "diff")
    parents = [read_digest(ChainID, directory / "parent"), None, *store.layers()]
    for diff_id in [recorded, *offer.diff_ids()]:
        if diff_id is not None and diff_id in offer:
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
