"""What is known of layers as they came compressed: digests, recipes, and kept blobs."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol, runtime_checkable

from layerstore_core.base.digests import ChainID, DiffID, chain_ids
from layerstore_core.base.limits import compressed_limit
from layerstore_core.images.formats.container import Container
from layerstore_core.images.formats.found import ImageFiles, LayerFile
from layerstore_core.images.keep.blobs import KeptBlobs, is_proved, spool
from layerstore_core.images.keep.recipe import Recipe, Recipes, find_recipe
from layerstore_core.log import logger
from layerstore_core.store.store import LayerStore

_LONGEST_MEDIA_TYPE: Final = 255


@runtime_checkable
class GivesBlobs(Protocol):
    """A container of which blobs may be taken, as files below the store's root."""

    def can_give(self, path: str, /) -> bool:
        """Return whether a blob can be taken: it is a whole file that nothing else needs."""

    def give(self, path: str, target: Path, /) -> None:
        """Move the file of a blob, which then has its bytes and no others.

        Args:
            path: the blob.
            target: where to.

        Raises:
            OSError: it cannot be moved.
        """


class CompressedLayers:
    """What one store knows of its layers as they came compressed.

    Args:
        store: an open store.

    Attributes:
        recipes: how to compress layers again.
        blobs: the blobs that were kept.
    """

    def __init__(self, store: LayerStore) -> None:
        self._store = store
        self.recipes = Recipes(store.root, store.driver_name)
        self.blobs = KeptBlobs(store.root, store.driver_name, durable=store.context.config.durability == "full")

    def learn(self, container: Container, images: Sequence[ImageFiles], verified: Collection[str]) -> None:
        """Record the digest and the recipe of each compressed layer, and keep the blob if the settings say so.

        The digest of a layer that was not read, because the store had it, is only what the container says. It is not
        recorded.

        Args:
            container: the files of the images.
            images: the images, whose layers the caller has handles to.
            verified: the digests of the blobs that were read.

        Raises:
            LayerStoreError, OSError: something could not be recorded.
        """
        layers = {
            layer: chain
            for image in images
            for layer, chain in zip(image.layers, chain_ids(image.config.diff_ids), strict=True)
        }
        for layer, chain in layers.items():
            descriptor = compressed_descriptor(layer)
            digest = str(descriptor["digest"]) if descriptor else ""
            if layer.descriptor is None or not layer.present or not digest.startswith("sha256:"):
                continue
            recipe = self.recipes.get(layer.diff_id)
            if recipe is None:
                with container.open(layer.path) as file:
                    recipe = find_recipe(file, digest, layer.descriptor.size, layer.descriptor.media_type[:255])
                if recipe is not None:
                    with self._store.context.changing_images():
                        self.recipes.put(layer.diff_id, recipe)
            # After the recipe: a pull that goes on after a kill takes a layer with this record for done.
            if digest in verified:
                with self._store.context.changing_images() as records:
                    records.record_blob(digest, layer.diff_id)
            self._keep(container, layer, chain, recipe, verified)

    def record_made(self, diff_id: DiffID, digest: str, recipe: Recipe | None, file: BinaryIO) -> None:
        """Record how a layer was compressed here, so that it is compressed to the same bytes again.

        The caller has locked the records of images.

        Args:
            diff_id: the layer.
            digest: the digest of its blob.
            recipe: how it was compressed; `None` if a later version may make other bytes: then the blob is kept, if the
                settings say so.
            file: a file without a name, on the store's file system, with the blob.

        Raises:
            OSError: it cannot be recorded.
        """
        if recipe is not None:
            if self.recipes.get(diff_id) is None:
                self.recipes.put(diff_id, recipe)
        elif self._store.context.config.keep_blobs != "never" and not self.blobs.has(diff_id, digest):
            self.blobs.put(diff_id, digest, file)
        self._store.context.image_db.record_blob(digest, diff_id)

    def _keep(
        self,
        container: Container,
        layer: LayerFile,
        chain: ChainID,
        recipe: Recipe | None,
        verified: Collection[str],
    ) -> None:
        """Keep the blob of a compressed layer, if the setting says so and it is what it should be."""
        assert layer.descriptor is not None
        digest, policy = layer.descriptor.digest, self._store.context.config.keep_blobs
        if policy == "never" or self.blobs.has(layer.diff_id, digest):
            return
        if policy == "unreproducible" and recipe is not None and recipe.digest == digest:
            with container.open(layer.path) as file:
                if is_proved(recipe, file):
                    return
        with self._store.get(chain) as handle:
            tar_size = handle.tar_size()
        fits = layer.descriptor.size <= compressed_limit(tar_size)
        if digest in verified and fits and isinstance(container, GivesBlobs) and container.can_give(layer.path):
            try:
                with self._store.context.changing_images():
                    self.blobs.adopt(layer.diff_id, digest, partial(container.give, layer.path))
                return
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.ESTALE):
                    raise
        with container.open(layer.path) as file:
            spooled = spool(file, digest, layer.diff_id, self._store.context.scratch_directory(), tar_size)
        if spooled is None:
            logger.info("{}: {} is not kept: it is not the layer, or much larger", container.name, layer.path)
            return
        with spooled, self._store.context.changing_images():
            self.blobs.put(layer.diff_id, digest, spooled)


def compressed_descriptor(layer: LayerFile) -> dict[str, object] | None:
    """Return the fields of a compressed layer's descriptor to record; `None` if the layer is not compressed.

    The other fields belong to the manifest, which is not recorded.
    """
    found = layer.descriptor
    if found is None or found.digest == layer.diff_id:
        return None
    return {"mediaType": found.media_type[:_LONGEST_MEDIA_TYPE], "size": found.size, "digest": found.digest}
