"""Registering layers: read, flushed to disk, and committed, one by one or a chain at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO

from layerstore_core.base.digests import chain_ids
from layerstore_core.errors import MaxDepthExceeded
from layerstore_core.log import logger
from layerstore_core.records.layer_record import LayerRecord
from layerstore_core.store.context import StoreContext
from layerstore_core.store.handles import Layer, live_layer, open_layer
from layerstore_core.store.nodes import LayerNode
from layerstore_core.store.register_chain import LayerInput, Overtaken, read_layers
from layerstore_core.store.registration import Progress, Registration, open_source


def register(
    context: StoreContext,
    stream: BinaryIO | str | os.PathLike[str],
    below: LayerNode | None,
    descriptor: Mapping[str, Any] | None,
    progress: Progress | None,
    *,
    allow_empty: bool = False,
) -> Layer:
    """Take in a layer; see `LayerStore.register`. The caller holds the layer below."""
    _check_depth(context, below)
    with (
        context.flushing() as flush,
        open_source(context, stream, allow_empty=allow_empty) as source,
        Registration(context.db, context.driver, below.as_parent if below else None) as registration,
    ):
        applied = registration.apply(source, progress)
        record = registration.write_record(applied, descriptor)
        flush()
        while True:
            layer = open_layer(context, record.chain_id) or _commit(context, registration, record, below)
            if layer is not None:
                return layer


def register_chain(context: StoreContext, layers: Sequence[LayerInput], below: LayerNode | None) -> Layer:
    """Take in layers that stand one on the other; see `LayerStore.register_chain`."""
    _check_depth(context, below, len(layers))
    names = chain_ids([layer.diff_id for layer in layers], below.record.chain_id if below else None)
    with ExitStack() as stack:
        while True:
            if (known := open_layer(context, names[-1])) is not None:
                return known
            first = len(names) - 1
            while first:
                if (known := open_layer(context, names[first - 1])) is not None:
                    below = live_layer(stack.enter_context(known))
                    break
                first -= 1
            try:
                return _register_missing(context, layers[first:], below)
            except Overtaken:
                continue


def _register_missing(context: StoreContext, layers: Sequence[LayerInput], below: LayerNode | None) -> Layer:
    """Register layers none of which is known."""
    with context.flushing() as flush, ExitStack() as stack, ExitStack() as registrations:
        new = read_layers(
            context.db,
            context.driver,
            below.as_parent if below else None,
            layers,
            source=lambda stream: open_source(
                context, stream, allow_empty=True
            ),  # the digest that each is to have says what it is
            registrations=registrations,
        )
        flush()
        top: Layer | None = None
        for registration, record in new:
            top = _commit(context, registration, record, below)
            if top is None:
                raise Overtaken
            below = live_layer(stack.enter_context(top))
        assert top is not None
        held = open_layer(context, top.chain_id)
        assert held is not None, "it is held already"
        return held


def _commit(
    context: StoreContext, registration: Registration, record: LayerRecord, parent: LayerNode | None
) -> Layer | None:
    """Make the new layer exist, with a handle to it; `None` where another process was faster."""
    key = context.catalog.lock_key(record.chain_id)
    while True:
        # Solely, so that neither a collector nor a reader comes between: until it is certain to last it may vanish.
        with context.catalog.lock, context.locks.lock_references(key) as alone:
            if alone:
                try:
                    with context.catalog.changing():
                        registration.commit(record)
                        context.catalog.add_layer(record, parent)
                        logger.info("committed layer {} as {}", record.chain_id, record.cache_id)
                except FileExistsError:
                    return None
                return open_layer(context, record.chain_id)
        # Another process commits it, or looks whether it is there: this waits until it has done so.
        if (existing := open_layer(context, record.chain_id)) is not None:
            existing.close()
            return None


def _check_depth(context: StoreContext, parent: LayerNode | None, more: int = 1) -> None:
    depth = parent.depth if parent is not None else 0
    if depth + more > context.max_depth:
        what = f"layer {parent.record.chain_id} is {depth} layers deep" if parent else f"there are {more} layers"
        raise MaxDepthExceeded(
            f"{what}; this store allows {context.max_depth} (setting max_depth, and what the driver can hold)"
        )
