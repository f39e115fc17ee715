"""What a pull that was killed had not recorded yet: how the layers that it had registered were compressed.

A layer is registered before its digest and recipe are recorded. The blob is still among the downloads then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from layerstore_core.base.digests import ChainID, chain_ids
from layerstore_core.errors import LayerStoreError
from layerstore_core.images.formats.container import Extent
from layerstore_core.images.formats.found import ImageFiles, LayerFile
from layerstore_core.images.keep.blobs import spool
from layerstore_core.images.keep.compressed import CompressedLayers, compressed_descriptor
from layerstore_core.images.remote.container import RegistryContainer
from layerstore_core.images.remote.receive.download import path_of
from layerstore_core.images.remote.receive.followed import FollowedBlob
from layerstore_core.images.remote.receive.leftovers import downloads_directory
from layerstore_core.images.remote.receive.partial_file import PartialFile
from layerstore_core.log import logger
from layerstore_core.records.blob_sources import BlobSources
from layerstore_core.store.store import LayerStore


@dataclass(frozen=True, slots=True)
class _Unrecorded:
    """A layer that the store has, and whose blob is not known, and the file of that blob."""

    image: ImageFiles
    layer: LayerFile
    chain: ChainID
    path: Path


def record_leftovers(store: LayerStore, container: RegistryContainer, images: Sequence[ImageFiles]) -> None:
    """Record how layers are compressed that the store has, and whose blobs are left of a pull that was killed.

    Each blob is read once, and verified. Then its file is removed. An error is logged: only a later save or push needs
    these records.

    Args:
        store: the store, which has the layers of the images.
        container: the images in the registry.
        images: the images; their layers that are not `present` were there before.
    """
    for found in _unrecorded(store, images):
        try:
            _record(store, container, found)
        except (LayerStoreError, OSError) as error:
            logger.warning("cannot record how {} was compressed: {}", found.path.name, error)


def _unrecorded(store: LayerStore, images: Sequence[ImageFiles]) -> Iterator[_Unrecorded]:
    directory = downloads_directory(store.root)
    if not directory.exists():
        return
    sources = BlobSources(store.context.image_db.path)
    for image in images:
        for layer, chain in zip(image.layers, chain_ids(image.config.diff_ids), strict=True):
            if layer.present or layer.descriptor is None or compressed_descriptor(layer) is None:
                continue
            digest = layer.descriptor.digest
            path = path_of(directory, digest)
            if digest.startswith("sha256:") and path.exists() and sources.diff_id(digest) != layer.diff_id:
                yield _Unrecorded(image, layer, chain, path)


def _record(store: LayerStore, container: RegistryContainer, found: _Unrecorded) -> None:
    """Record one layer.

    Raises:
        LayerStoreError, OSError: it cannot be read or recorded.
    """
    descriptor = found.layer.descriptor
    assert descriptor is not None
    with closing(PartialFile(found.path, descriptor.size)) as file:
        if not file.try_lock() or not file.complete:
            return
        size = descriptor.size

        def read(position: int, count: int) -> bytes:
            return file.read_at(position, min(count, size - position)) if position < size else b""

        blob = cast("BinaryIO", FollowedBlob(size, read, found.path.name))
        scratch = store.context.scratch_directory()
        with store.get(found.chain) as handle:
            spooled = spool(blob, descriptor.digest, found.layer.diff_id, scratch, handle.tar_size())
        if spooled is not None:
            with spooled:
                container.places[found.layer.path] = (
                    size,
                    lambda: cast("BinaryIO", Extent(spooled.fileno(), 0, size, found.layer.path)),
                )
                layers = tuple(replace(one, present=one is found.layer) for one in found.image.layers)
                CompressedLayers(store).learn(container, [replace(found.image, layers=layers)], {descriptor.digest})
                del container.places[found.layer.path]
            logger.info("{}: a pull that was killed has left it; it is recorded now", descriptor.digest)
        file.remove()
