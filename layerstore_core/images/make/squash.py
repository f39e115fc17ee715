"""Squashing: the upper layers of an image, or all, as one layer.

Rules of the config: as `docker build --squash`. The steps of the squashed layers stay in the history, without layers,
and one more step has the new layer.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from datetime import datetime
from typing import TYPE_CHECKING

from layerstore_core.images.config.created import creation_time
from layerstore_core.images.config.model import HistoryStep, ImageConfig
from layerstore_core.images.config.options import ConfigOptions
from layerstore_core.images.layer.difference import layer_of, whole_layer
from layerstore_core.images.layer.tar import open_tar
from layerstore_core.images.make.record import finish_image
from layerstore_core.view.compare import compare_views
from layerstore_core.view.tree import TreeView

if TYPE_CHECKING:
    from layerstore_core.base.reference import Reference
    from layerstore_core.images.image import Image
    from layerstore_core.images.layer.places import Places
    from layerstore_core.store.registration.layer import Progress
    from layerstore_core.store.store import LayerStore
    from layerstore_core.view.nodes import FileNode


def squash(
    store: LayerStore,
    image: Image,
    keep: int,
    *,
    name: Reference | None,
    created: str | datetime | None = None,
    message: str = "",
    progress: Progress | None = None,
) -> Image:
    """Make an image whose upper layers are one; see `Images.squash`.

    Args:
        store: an open store.
        image: the image.
        keep: how many of its lower layers stay as they are.
        name: the name of the new image.
        created: the time of the new image.
        message: a comment for the history.
        progress: called now and then with the bytes and entries of the layer.

    Raises:
        ValueError: there is no layer to squash.
    """
    count = len(image.diff_ids)
    if not 0 <= keep < count:
        if not count:
            raise ValueError("the image has no layers, so there is nothing to squash")
        layers = "1 layer" if count == 1 else f"{count} layers"
        raise ValueError(
            f"the image has {layers}: keep (--keep) is 0 to {count - 1}, not {keep}, so that a layer is left to squash"
        )
    store.context.check_writable()
    config = ImageConfig.of_base(image.config)
    config.created = creation_time(created)
    _squash_history(config, keep)
    with ExitStack() as stack:
        view = stack.enter_context(closing(stack.enter_context(store.get(image.chain_ids[-1])).view()))
        parent = stack.enter_context(store.get(image.chain_ids[keep - 1])) if keep else None
        if parent is None:
            places = whole_layer(view)
        else:
            below = stack.enter_context(closing(parent.view()))
            below.share_base(view, keep)
            places = _upper_layer(below, view)
        if places.is_empty and parent is not None:
            layer = None  # what the upper layers have made, they have also deleted
        else:
            tar = stack.enter_context(open_tar(places, image=view))
            layer = store.register(tar, parent, progress=progress)
        return finish_image(
            store,
            config,
            layer,
            parent,
            base=image,
            parent=None,
            name=name,
            created_by="layerstore squash",
            options=ConfigOptions(message=message),
        )


def kept_below(image: Image, layer: str) -> int:
    """Return how many layers an image has below one of its layers.

    Args:
        image: the image.
        layer: the first digits of the layer's chain ID or diff ID, at least four.

    Raises:
        ValueError: the image has no such layer, or several.
    """
    digits = layer.removeprefix("sha256:")
    if len(digits) < 4 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError(f"{layer[:80]!r} is no layer; give four or more digits of a chain ID or a diff ID")
    found = {
        number
        for number, (chain_id, diff_id) in enumerate(zip(image.chain_ids, image.diff_ids, strict=True))
        if chain_id.hex.startswith(digits) or diff_id.hex.startswith(digits)
    }
    if len(found) != 1:
        known = ", ".join(chain_id.hex[:12] for chain_id in image.chain_ids)
        what = "several layers of the image begin" if found else "no layer of the image begins"
        raise ValueError(f"{what} with {digits[:80]!r}; its layers are {known}")
    return found.pop()


def _upper_layer(below: TreeView, whole: TreeView) -> Places:
    """Return the layer that makes `whole` of `below`, whose layers are the lower ones of `whole`."""

    def same(old: FileNode, new: FileNode) -> bool:
        return (old.layer, old.offset) == (new.layer, new.offset)

    return layer_of(compare_views(below, whole, same, implied=True), whole)


def _squash_history(config: ImageConfig, keep: int) -> None:
    """Leave the first layers, and mark the steps of the others as steps without a layer."""
    assert config.rootfs is not None
    assert config.rootfs.diff_ids is not None
    count = len(config.rootfs.diff_ids)
    steps = list(config.history or ())
    with_layer = sum(not step.empty_layer for step in steps)
    steps += [HistoryStep(created=config.created) for _ in range(count - with_layer)]
    layer = 0
    for step in steps:
        if step.empty_layer:
            continue
        layer += 1
        if layer > keep:
            step.empty_layer = True
    config.history = steps
    config.rootfs.diff_ids = config.rootfs.diff_ids[:keep]
