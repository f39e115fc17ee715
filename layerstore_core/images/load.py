"""Taking images in: their layers first, then all the records, or nothing."""

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

#: Gives what is called with a layer's progress, for the layer's name and the size of its file in bytes.
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

    A name that another image has had goes to the new one.

    Args:
        store: where they go.
        container: where they are.
        images: the images, each once.
        recipes: gets how compressed layers are made again.
        progress: makes what is called with each layer's progress.
        skipped: gets the images with a layer that cannot be used; `None`: such an image is an error.

    Returns:
        The images that were recorded, with the names that were, in the same order.

    Raises:
        InvalidImage: a layer is damaged, or not the one that the config names; the store is as it was.
        MaxDepthExceeded: an image has more layers than the store allows; the store is as it was.
        OSError: the system refuses; the store is as it was.
    """
    tops: list[Layer] = []
    taken: list[ImageFiles] = []
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
                taken.append(image)
        with store.context.changing_images() as records:
            _record(records, taken)
    except BaseException:
        for top in reversed(tops):
            store.release(top)
        raise
    # From here on the images hold their layers.
    for top in tops:
        top.close()
    try:
        _note_blobs(store, container, taken, recipes)
    except (LayerStoreError, OSError) as error:  # it saves work, and no more: the images are there
        logger.warning("how compressed layers of {} can be made again is not kept: {}", container.name, error)
    return taken


def _register(store: LayerStore, container: Container, image: ImageFiles, progress: LayerProgress | None) -> Layer:
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
    # The digest of what is not compressed is the diff ID: the store compares that.
    if layer.descriptor is None or layer.descriptor.digest == layer.diff_id:
        return file
    return cast("BinaryIO", VerifiedBlob(file, layer.descriptor.digest))


def _descriptor(layer: LayerFile) -> dict[str, object] | None:
    """What is kept of a compressed layer's descriptor; the rest is the manifest's, which is not kept."""
    found = layer.descriptor
    if found is None or found.digest == layer.diff_id:
        return None
    return {"mediaType": found.media_type[:_LONGEST_MEDIA_TYPE], "size": found.size, "digest": found.digest}


def _record(records: ImageDB, images: Sequence[ImageFiles]) -> None:
    added = []
    loaded = {image.config.image_id for image in images}
    try:
        for image in images:
            if not records.has(image.config.image_id):
                added.append(image.config.image_id)
            records.add(image.config.data, image.parent if image.parent in loaded else None)
        if names := {str(name): image.config.image_id for image in images for name in image.names}:
            for image_id in dict.fromkeys(names.values()):
                records.set_last_updated(image_id, now())
            records.set_names({**records.names(), **names})  # last: an error means that nothing changed
    except BaseException:
        for image_id in reversed(added):
            records.remove(image_id)
        raise


def now() -> str:
    """The time, as Docker writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _note_blobs(store: LayerStore, container: Container, images: Sequence[ImageFiles], recipes: Recipes) -> None:
    """Note of each compressed layer what it was, and how it can be made again, if it can."""
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
