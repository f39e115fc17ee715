"""Loading images: register their layers, then record all images, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import BinaryIO, cast

from layerstore_core.errors import InvalidImage, InvalidLayer, LayerStoreError, MaxDepthExceeded
from layerstore_core.images.blob import VerifiedBlob
from layerstore_core.images.formats.container import Container
from layerstore_core.images.formats.found import ImageFiles, LayerFile, Skipped
from layerstore_core.images.recipe import Recipes, find_recipe
from layerstore_core.log import logger
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.store.handles import Layer
from layerstore_core.store.register_chain import LayerInput
from layerstore_core.store.registration import Progress
from layerstore_core.store.store import LayerStore

#: Takes a layer's name and the size of its file in bytes; returns the function to report that layer's progress to.
LayerProgress = Callable[[str, int], Progress]

_LONGEST_MEDIA_TYPE = 255


def load(
    store: LayerStore,
    container: Container,
    images: Sequence[ImageFiles],
    recipes: Recipes,
    progress: LayerProgress | None = None,
    *,
    skipped: list[Skipped] | None = None,
) -> list[ImageFiles]:
    """Register the layers of images, then record the images and their names.

    If another image has one of the names, the name moves to the loaded image.

    Args:
        store: the store to load into.
        container: the files of the images.
        images: the images, each once.
        recipes: the recipes of the store; those of the compressed layers are added.
        progress: see `LayerProgress`.
        skipped: images with a layer that cannot be used are added here. With `None`, such an image is an error.

    Returns:
        The images that were recorded, with their recorded names, in the same order.

    Raises:
        InvalidImage: a layer is damaged, or not the one that the config names; the store is unchanged.
        MaxDepthExceeded: an image has more layers than the store allows; the store is unchanged.
        OSError: the system refuses an operation; the store is unchanged.
    """
    tops: list[Layer] = []
    loaded: list[ImageFiles] = []
    try:
        for image in images:
            try:
                if image.layers:
                    tops.append(_register(store, container, image, progress))
            except (InvalidImage, MaxDepthExceeded) as error:
                if skipped is None:
                    raise
                what = ", ".join(map(str, image.names)) or image.config.image_id
                skipped.append(Skipped(what, "invalid", str(error).removeprefix(f"{container.name}: ")))
            else:
                loaded.append(image)
        with store.context.changing_images() as records:
            _record(records, loaded)
    except BaseException:
        for top in reversed(tops):
            store.release(top)
        raise
    # From here on the image records refer to the layers: the handles are no longer needed.
    for top in tops:
        top.close()
    try:
        _record_blobs(store, container, loaded, recipes)
    except (LayerStoreError, OSError) as error:  # only a later save needs these records: the images are loaded
        logger.warning(
            "cannot record how layers of {} were compressed; they may be saved with other digests: {}",
            container.name,
            error,
        )
    return loaded


def _register(store: LayerStore, container: Container, image: ImageFiles, progress: LayerProgress | None) -> Layer:
    """Register the layers of an image; return a handle to the topmost one."""

    def input_of(number: int, layer: LayerFile) -> LayerInput:
        name = f"layer {number} of {len(image.layers)} ({layer.path})"
        report = progress(name, container.size(layer.path)) if progress else None
        return LayerInput(partial(_open, container, layer), layer.diff_id, name, _descriptor(layer), report)

    try:
        return store.register_chain([input_of(number, layer) for number, layer in enumerate(image.layers, 1)])
    except InvalidLayer as error:
        raise InvalidImage(f"{container.name}: image {image.config.image_id}: {error}") from error


def _open(container: Container, layer: LayerFile) -> BinaryIO:
    file = container.open(layer.path)
    # The digest of an uncompressed blob is its diff ID, which the store verifies anyway.
    if layer.descriptor is None or layer.descriptor.digest == layer.diff_id:
        return file
    return cast("BinaryIO", VerifiedBlob(file, layer.descriptor.digest))


def _descriptor(layer: LayerFile) -> dict[str, object] | None:
    """Return the fields of a compressed layer's descriptor to record; `None` if the layer is not compressed.

    The other fields belong to the manifest, which is not recorded.
    """
    found = layer.descriptor
    if found is None or found.digest == layer.diff_id:
        return None
    return {"mediaType": found.media_type[:_LONGEST_MEDIA_TYPE], "size": found.size, "digest": found.digest}


def _record(records: ImageDB, images: Sequence[ImageFiles]) -> None:
    """Record all images and their names; on an error, remove those that were added."""
    added = []
    loaded = {image.config.image_id for image in images}
    try:
        for image in images:
            if not records.has(image.config.image_id):
                added.append(image.config.image_id)
            parent = image.parent if image.parent in loaded else None
            records.add(image.config.data, parent, unnamed=bool(image.names))
        if names := {str(name): image.config.image_id for image in images for name in image.names}:
            for image_id in dict.fromkeys(names.values()):
                records.set_last_updated(image_id, now())
            records.set_names({**records.names(), **names})  # last: an error means that nothing changed
    except BaseException:
        for image_id in reversed(added):
            records.remove(image_id)
        raise
    records.finish(added)


def now() -> str:
    """Return the current time in Docker's notation."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _record_blobs(store: LayerStore, container: Container, images: Sequence[ImageFiles], recipes: Recipes) -> None:
    """Record the digest of each compressed layer, and its recipe, if there is one."""
    for layer in dict.fromkeys(layer for image in images for layer in image.layers):
        descriptor = _descriptor(layer)
        digest = str(descriptor["digest"]) if descriptor else ""
        if layer.descriptor is None or not digest.startswith("sha256:"):
            continue
        with store.context.changing_images() as records:
            records.record_blob(digest, layer.diff_id)
        if recipes.get(layer.diff_id) is None:
            with container.open(layer.path) as file:
                recipe = find_recipe(file, digest, layer.descriptor.size, layer.descriptor.media_type[:255])
            if recipe is not None:
                with store.context.changing_images():
                    recipes.put(layer.diff_id, recipe)
