"""What there is to say about one image: its config, platform, names and layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from layerstore_core.base.digests import ChainID, DiffID, ImageID
from layerstore_core.errors import BadRecord, LayerDoesNotExist
from layerstore_core.images.image import Image
from layerstore_core.images.keep.outgoing import annotations_of
from layerstore_core.records.kept import KeptDocuments, Origin, Referrer
from layerstore_core.store.store import LayerStore


@dataclass(frozen=True, slots=True)
class LayerOfImage:
    """A layer as one image has it.

    Attributes:
        chain_id: its name in the store.
        diff_id: the digest of its tar.
        diff_size: the bytes in its own files; `None` if the layer is missing or damaged.
        descriptor: the OCI descriptor that it was registered with, if there was one.
    """

    chain_id: ChainID
    diff_id: DiffID
    diff_size: int | None
    descriptor: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """An image, and what its config and the store's records say about it.

    Attributes:
        image: the image.
        digests: the digests of the manifests and indexes that came in with it, sorted.
        annotations: the annotations of its manifest, under its first name.
        parent: the image that it was built from, if that is recorded.
        layers: its layers, the base first.
        referrers: the signatures, attestations and other artifacts that were kept with it.
    """

    image: Image
    digests: tuple[str, ...]
    annotations: Mapping[str, str]
    parent: ImageID | None
    layers: tuple[LayerOfImage, ...]
    referrers: tuple[Referrer, ...] = ()


class Digests:
    """The digests with which images came in: of their manifest, or of an index that led to it.

    What cannot be read counts as missing; `check` reports it.

    Args:
        kept: what belongs to images.
    """

    def __init__(self, kept: KeptDocuments) -> None:
        self._kept = kept
        try:
            self._names = kept.names()
        except (BadRecord, OSError):
            self._names = {}

    def of(self, image: ImageID, name: str | None) -> str | None:
        """Return the digest of an image under a name, or without one; `None` if none is known."""
        origin = self.origin(image, name)
        return None if origin is None else origin.digest

    def all_of(self, image: Image) -> tuple[str, ...]:
        """Return the digests of all manifests and indexes of an image, sorted."""
        origins = [self.origin(image.image_id, name) for name in (*image.names, None)]
        found = {digest for one in origins if one for digest in (one.digest, one.images.get(image.image_id)) if digest}
        return tuple(sorted(found))

    def referrers_of(self, image: Image) -> tuple[Referrer, ...]:
        """Return what refers to any of the manifests and indexes of an image, each once."""
        origins = [self.origin(image.image_id, name) for name in (*image.names, None)]
        found = {(one.digest, one.subject): one for origin in origins if origin for one in origin.referrers}
        return tuple(found.values())

    def origin(self, image: ImageID, name: str | None) -> Origin | None:
        """Return the origin of an image under a name; if there is none, or no name, the image's own."""
        found = None if name is None else self._names.get(name, {}).get(image)
        if found is not None:
            return found
        try:
            return self._kept.of_image(image)
        except (BadRecord, OSError):
            return None


def details_of(store: LayerStore, image: Image) -> ImageDetails:
    """Return the details of an image. A layer that is missing or damaged has no size."""
    pairs = zip(image.chain_ids, image.diff_ids, strict=True)
    kept = store.context.kept
    try:
        annotations = annotations_of(kept, image.image_id, image.given_name or next(iter(image.names), None))
    except (BadRecord, OSError):  # `check` reports it
        annotations = {}
    digests = Digests(kept)
    return ImageDetails(
        image,
        digests.all_of(image),
        annotations,
        store.context.image_db.parent(image.image_id),
        tuple(_layer(store, chain_id, diff_id) for chain_id, diff_id in pairs),
        digests.referrers_of(image),
    )


def _layer(store: LayerStore, chain_id: ChainID, diff_id: DiffID) -> LayerOfImage:
    try:
        with store.get(chain_id) as layer:
            return LayerOfImage(chain_id, diff_id, layer.diff_size, layer.descriptor)
    except (LayerDoesNotExist, BadRecord):
        return LayerOfImage(chain_id, diff_id, None, None)
