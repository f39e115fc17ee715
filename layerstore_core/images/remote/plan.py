"""What a pull loads, and where its layers come from: the store, elsewhere in the store, or the registry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from layerstore_core.base.digests import ChainID, DiffID, ImageID, chain_ids
from layerstore_core.base.reference import Reference
from layerstore_core.errors import BadRecord, InvalidImage
from layerstore_core.images.formats.documents import Descriptor
from layerstore_core.images.formats.find import find_images, named
from layerstore_core.images.formats.found import FoundImages, ImageFiles, LayerFile
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.remote.container import RegistryContainer
from layerstore_core.images.remote.documents import RemoteImage, Source, read_blob
from layerstore_core.images.remote.events import BlobProgress
from layerstore_core.images.remote.layer_tar import StoredTar
from layerstore_core.images.remote.receive.download import Blob
from layerstore_core.records.kept import MAX_DOCUMENT
from layerstore_core.store.context import StoreContext
from layerstore_core.store.handles import Layer
from layerstore_core.store.register import check_depth
from layerstore_core.store.store import LayerStore


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What is pulled of an image.

    Attributes:
        platform: the platform; `None` for this host's, or the only one that there is.
        all_platforms: whether to pull the images for all platforms.
        name: the name that the image gets; `None` for the one that it has in the registry.
        referrers: whether to pull what refers to it, too.
        progress: called with the state of each layer.
    """

    platform: Platform | None = None
    all_platforms: bool = False
    name: Reference | None = None
    referrers: bool = False
    progress: BlobProgress | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be loaded, and from where.

    Attributes:
        found: the images; layers that the store has are not `present`.
        container: their files.
        blobs: the layers to be received.
        present: the sizes of the other layers, by the digests of their blobs.
    """

    found: FoundImages
    container: RegistryContainer
    blobs: list[Blob]
    present: dict[str, int]


def plan_pull(store: LayerStore, source: Source, image: RemoteImage, options: PullOptions, *, local: bool) -> Plan:
    """Find the images to load, and the layers that are to be received.

    Args:
        store: the store.
        source: the registry.
        image: what was read of the image there.
        options: what is pulled.
        local: whether to take layers from elsewhere in the store, where they have other parents.

    Raises:
        InvalidImage: there is no image to load, or a layer is larger than the limit.
        MaxDepthExceeded: an image has more layers than the store allows.
        IntegrityError: a layer of the store is damaged.
    """
    container = RegistryContainer(
        image,
        lambda blob: (
            known_document(store.context, blob.digest) or read_blob(source, image.reference, blob, MAX_DOCUMENT)
        ),
    )
    found = find_images(container, options.platform, all_platforms=options.all_platforms, has_layer=store.has_layer)
    for one in found.images:
        check_depth(store.context, None, len(one.layers))  # before each of very many layers is looked for
    if options.name is not None:
        found = named(found, options.name)
    planner = _Planner(store, container)
    if local:
        planner.look_elsewhere(found.images)
    images = {one.config.image_id: planner.planned(one) for one in found.images}
    groups = [
        replace(group, images=tuple(images.get(one.config.image_id, one) for one in group.images))
        for group in found.groups
    ]
    planned = replace(found, images=list(images.values()), groups=groups)
    return Plan(planned, container, list(planner.blobs.values()), planner.present)


class _Planner:
    """Says of each layer where it comes from.

    Args:
        store: the store.
        container: the container of the images; other places of layers are added.

    Attributes:
        blobs: the layers to be received, by digest.
        present: the sizes of the other layers, by the digests of their blobs.
    """

    def __init__(self, store: LayerStore, container: RegistryContainer) -> None:
        self._store = store
        self._container = container
        self._elsewhere: dict[DiffID, Layer] = {}
        self.blobs: dict[str, Blob] = {}
        self.present: dict[str, int] = {}

    def look_elsewhere(self, images: list[ImageFiles]) -> None:
        """Look for layers that the store has with other parents."""
        missing = {layer.diff_id for one in images for layer, chain in _chains(one) if not self._store.has_layer(chain)}
        if missing:
            layers = self._store.layers().values()
            self._elsewhere = {layer.diff_id: layer for layer in layers if layer.diff_id in missing}

    def planned(self, image: ImageFiles) -> ImageFiles:
        """Return an image with its layers as they are planned."""
        return replace(image, layers=tuple(self._planned(*pair) for pair in _chains(image)))

    def _planned(self, layer: LayerFile, chain: ChainID) -> LayerFile:
        assert layer.descriptor is not None, "the container is an OCI layout"
        digest, size = layer.descriptor.digest, layer.descriptor.size
        if self._store.has_layer(chain):
            self.present[digest] = size
            return replace(layer, present=False)
        if (known := self._elsewhere.get(layer.diff_id)) is not None:
            path = f"layers/{known.chain_id.hex}"
            tar_size = known.tar_size()
            self._container.places[path] = (
                tar_size,
                lambda: cast("BinaryIO", StoredTar(self._store, known.chain_id, tar_size)),
            )
            self.present[digest] = size
            return LayerFile(path, layer.diff_id)
        limit = self._store.context.limits.layer
        if limit is not None and size > limit.compressed:
            raise InvalidImage(f"{self._container.name}: layer {digest} has {size} bytes: it is larger than {limit}")
        self.blobs.setdefault(digest, Blob(digest, size, _places(layer.descriptor)))
        return layer


def _chains(image: ImageFiles) -> list[tuple[LayerFile, ChainID]]:
    return list(zip(image.layers, chain_ids(image.config.diff_ids), strict=True))


def _places(layer: Descriptor) -> tuple[str, ...]:
    """Return the other places of a foreign layer."""
    urls = layer.document.get("urls")
    if "foreign" not in layer.media_type and "nondistributable" not in layer.media_type:
        return ()
    return tuple(url for url in urls if isinstance(url, str)) if isinstance(urls, list) else ()


def known_document(context: StoreContext, digest: str) -> bytes | None:
    """Return a manifest or a config that the store has."""
    try:
        if digest.startswith("sha256:") and context.image_db.has(ImageID(digest)):
            return context.image_db.read(ImageID(digest))
        return context.kept.read(digest) if context.kept.has(digest) else None
    except (BadRecord, OSError, ValueError):  # then it is asked for
        return None
