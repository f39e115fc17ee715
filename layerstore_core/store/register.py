"""Register layers: read, flush to disk and commit them, one alone or a whole chain."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

from layerstore_core.base.digests import ChainID, chain_ids
from layerstore_core.errors import MaxDepthExceeded
from layerstore_core.log import logger
from layerstore_core.records.layer_record import LayerRecord
from layerstore_core.store.context import StoreContext
from layerstore_core.store.handles import Layer, live_layer, open_layer
from layerstore_core.store.nodes import LayerNode
from layerstore_core.store.registration.layer import Progress, Registration, open_source

if TYPE_CHECKING:
    from layerstore_core.store.registration.chain import LayerInput


def register(
    context: StoreContext,
    stream: BinaryIO | str | os.PathLike[str],
    parent: LayerNode | None,
    descriptor: Mapping[str, Any] | None,
    progress: Progress | None,
    *,
    allow_empty: bool = False,
) -> Layer:
    """Register a layer; see `LayerStore.register`. The caller has a handle to the parent."""
    check_depth(context, parent)
    with (
        context.flushing() as flush,
        open_source(context, stream, allow_empty=allow_empty) as source,
        Registration(context.db, context.driver, parent.as_parent if parent else None) as registration,
    ):
        applied = registration.apply(source, progress)
        record = registration.write_record(applied, descriptor)
        flush()
        while True:
            layer = open_layer(context, record.chain_id) or _commit(context, registration, record, parent)
            if layer is not None:
                return layer


def register_chain(context: StoreContext, layers: Sequence[LayerInput], parent: LayerNode | None) -> Layer:
    """Register layers of which each is the parent of the next; see `LayerStore.register_chain`."""
    from layerstore_core.store.registration.chain import Overtaken  # lazy: most commands register one layer alone

    check_depth(context, parent, len(layers))
    names = chain_ids([layer.diff_id for layer in layers], parent.record.chain_id if parent else None)
    made: list[ChainID] = []
    with ExitStack() as stack:
        while True:
            if (known := open_layer(context, names[-1], made=tuple(made))) is not None:
                return known
            first = len(names) - 1
            while first:
                if (known := open_layer(context, names[first - 1])) is not None:
                    parent = live_layer(stack.enter_context(known))
                    break
                first -= 1
            try:
                return _register_missing(context, layers[first:], parent, made)
            except Overtaken:
                continue


def _register_missing(
    context: StoreContext, layers: Sequence[LayerInput], parent: LayerNode | None, made: list[ChainID]
) -> Layer:
    """Register layers none of which is known, and add each to `made` when it is committed."""
    from layerstore_core.store.registration.chain import Overtaken, read_layers

    with context.flushing() as flush, ExitStack() as stack, ExitStack() as registrations:
        new = read_layers(
            context.db,
            context.driver,
            parent.as_parent if parent else None,
            layers,
            source=lambda stream: open_source(
                context, stream, allow_empty=True
            ),  # the expected digest says whether it is empty
            registrations=registrations,
        )
        flush()
        top: Layer | None = None
        for registration, record in new:
            top = _commit(context, registration, record, parent)
            if top is None:
                raise Overtaken
            parent = live_layer(stack.enter_context(top))
            made.append(record.chain_id)
        assert top is not None
        layer = open_layer(context, top.chain_id, made=tuple(made))
        assert layer is not None, "a handle to it is open already"
        return layer


def _commit(
    context: StoreContext, registration: Registration, record: LayerRecord, parent: LayerNode | None
) -> Layer | None:
    """Commit a new layer, and open a handle to it; return `None` where another process committed it first."""
    key = context.catalog.lock_key(record.chain_id)
    while True:
        # Locked, so that neither a collector nor a reader comes in between: until it is on disk it may vanish.
        with context.catalog.lock, context.locks.lock_references(key) as alone:
            if alone:
                try:
                    with context.catalog.changing():
                        registration.commit(record)
                        context.catalog.add_layer(record, parent)
                        logger.info("committed layer {} as {}", record.chain_id, record.cache_id)
                except FileExistsError:
                    return None
                return open_layer(context, record.chain_id, made=(record.chain_id,))
        # Another process commits it, or looks whether it exists: this waits until it is done.
        if (existing := open_layer(context, record.chain_id)) is not None:
            existing.close()
            return None


def check_depth(context: StoreContext, parent: LayerNode | None, more: int = 1) -> None:
    """Check that layers may be put on a parent.

    Args:
        context: the store.
        parent: the parent; `None` for the base.
        more: the number of layers.

    Raises:
        MaxDepthExceeded: these are more than the store allows.
    """
    depth = parent.depth if parent is not None else 0
    if depth + more > context.max_depth:
        what = f"layer {parent.record.chain_id} is {depth} layers deep" if parent else f"there are {more} layers"
        raise MaxDepthExceeded(
            f"{what}; this store allows {context.max_depth} (setting max_depth, and what the driver can hold)"
        )
