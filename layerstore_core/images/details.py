"""What there is to say about one image: its config, platform, names and layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from layerstore_core.base.digests import ChainID, DiffID, ImageID
from layerstore_core.errors import BadRecord, LayerDoesNotExist
from layerstore_core.images.image import Image
from layerstore_core.store.store import LayerStore


@dataclass(frozen=True, slots=True)
class LayerOfImage:
    """A layer as one image has it.

    Attributes:
        chain_id: its name in the store.
        diff_id: the digest of its tar.
        size: the bytes in its own files; `None` if the layer is missing or damaged.
        descriptor: the OCI descriptor that it was registered with, if there was one.
    """

    chain_id: ChainID
    diff_id: DiffID
    size: int | None
    descriptor: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """An image, and what its config and the store's records say about it.

    Attributes:
        image: the image.
        parent: the image that it was built from, if that is recorded.
        layers: its layers, the base first.
    """

    image: Image
    parent: ImageID | None
    layers: tuple[LayerOfImage, ...]


def details_of(store: LayerStore, image: Image) -> ImageDetails:
    """Return the details of an image. A layer that is missing or damaged has no size."""
    pairs = zip(image.chain_ids, image.diff_ids, strict=True)
    return ImageDetails(
        image,
        store.context.image_db.parent(image.image_id),
        tuple(_layer(store, chain_id, diff_id) for chain_id, diff_id in pairs),
    )


def _layer(store: LayerStore, chain_id: ChainID, diff_id: DiffID) -> LayerOfImage:
    try:
        with store.get(chain_id) as layer:
            return LayerOfImage(chain_id, diff_id, layer.diff_size, layer.descriptor)
    except (LayerDoesNotExist, BadRecord):
        return LayerOfImage(chain_id, diff_id, None, None)
