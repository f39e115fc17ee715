"""Making an image from another one: with another config, and no layer read; or from layers that are in the store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

from layerstore_core.base.digests import ChainID
from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidImage
from layerstore_core.images.config.created import creation_time
from layerstore_core.images.config.options import ConfigOptions
from layerstore_core.images.image import Image
from layerstore_core.images.make.record import (
    add_step,
    finish_image,
    history_entry,
    record_image,
    releasing,
)
from layerstore_core.store.handles import Layer
from layerstore_core.store.store import LayerStore

if TYPE_CHECKING:
    from layerstore_core.images.config.model import ImageConfig

#: A layer for a new image: a handle, or a chain ID; or a tar, as a path or a binary file object.
LayerSource = Layer | ChainID | BinaryIO | str | os.PathLike[str]


def configure(store: LayerStore, image: Image, name: Reference | None, options: ConfigOptions) -> Image:
    """Make an image with the same layers and another config; see `Images.configure`."""
    from layerstore_core.images.config.model import ImageConfig

    config = ImageConfig.of_base(image.config)
    options.apply(config)
    with ExitStack() as opened:
        top = None if image.chain_id is None else opened.enter_context(store.get(image.chain_id))
        return finish_image(
            store,
            config,
            None,
            top,
            base=image,
            parent=image.image_id,
            name=name,
            created_by="; ".join(options.instructions) or "layerstore config",
            options=options,
        )


def create(
    store: LayerStore, layers: Sequence[LayerSource], config: ImageConfig | None, name: Reference | None
) -> Image:
    """Make an image of layers; see `Images.create`."""
    from layerstore_core.images.config.model import ImageConfig, RootFS

    config = ImageConfig.scratch() if config is None else config.model_copy(deep=True)
    if not config.created:
        config.created = creation_time()
    opened: list[Layer] = []
    with releasing(store, opened):
        top: Layer | None = None
        for layer in layers:
            top = _put_on(store, layer, top)
            opened.append(top)
        diff_ids = [] if top is None else [layer.diff_id for layer in top.chain()]
        if config.rootfs is None:
            config.rootfs = RootFS(type="layers")
        config.rootfs.diff_ids = []
        steps = config.history or []
        known = sum(not step.empty_layer for step in steps)
        if known > len(diff_ids):
            raise InvalidImage(
                f"the history of the config has {known} steps with a layer, more than the image has layers "
                f"({len(diff_ids)}); set empty_layer for steps without a layer"
            )
        for number, diff_id in enumerate(diff_ids):
            if number < known:
                config.rootfs.diff_ids = [*config.rootfs.diff_ids, diff_id]
            else:
                add_step(config, history_entry("layerstore create", created=config.created), diff_id)
        return record_image(store, config, top, name=name, parent=None)


def _put_on(store: LayerStore, layer: LayerSource, parent: Layer | None) -> Layer:
    """Return a handle to a layer on a parent; a layer that is on another one is registered again."""
    if not isinstance(layer, (Layer, ChainID)):
        return store.register(layer, parent)
    found = store.get(layer)
    if parent is None or found.parent_id == parent.chain_id:
        return found
    with found, found.tar_stream() as stream:
        return store.register(stream, parent, allow_empty=True)
