"""Loading images: register their layers, then record all images, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, cast

from layerstore_core.base import inside
from layerstore_core.base.digests import ImageID
from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidImage, InvalidLayer, LayerStoreError, MaxDepthExceeded
from layerstore_core.images.formats.container import Container
from layerstore_core.images.formats.found import FoundImages, ImageFiles, ImageGroup, LayerFile, Skipped
from layerstore_core.images.formats.referrers import ReferrerFiles
from layerstore_core.images.keep.compressed import CompressedLayers, compressed_descriptor
from layerstore_core.images.keep.incoming import Documents, Incoming, incoming
from layerstore_core.images.transfer.blob import VerifiedBlob
from layerstore_core.log import logger
from layerstore_core.records.kept import fit_names
from layerstore_core.store.context import StoreContext
from layerstore_core.store.handles import Layer
from layerstore_core.store.registration.chain import LayerInput
from layerstore_core.store.registration.layer import Progress
from layerstore_core.store.store import LayerStore

#: Takes a layer's name and the size of its file in bytes; returns the function to report that layer's progress to.
LayerProgress = Callable[[str, int], Progress]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The images that were recorded.

    Attributes:
        images: the images, in the order of the container.
        names: the names that each was given: those of its group.
        referrers: what was kept that refers to them.
    """

    images: list[ImageFiles]
    names: dict[ImageID, set[Reference]]
    referrers: Sequence[ReferrerFiles]


def load(
    store: LayerStore,
    found: FoundImages,
    compressed: CompressedLayers,
    progress: LayerProgress | None = None,
    *,
    skip_invalid: bool = False,
) -> Loaded:
    """Register the layers of images, then record the images, what belongs to them, and their names.

    If another image has one of the names, the name moves to the loaded image.

    Args:
        store: the store to load into.
        found: the images. What is left out is added to its `skipped`.
        compressed: what is known of compressed layers; those of the images are added.
        progress: see `LayerProgress`.
        skip_invalid: skip images with a layer that cannot be used; otherwise such an image is an error.

    Raises:
        InvalidImage: a layer is damaged, or not the one that the config names; the store is unchanged.
        MaxDepthExceeded: an image has more layers than the store allows; the store is unchanged.
        BadRecord: the records of images, or of what belongs to them, are damaged; the store is unchanged.
        OSError: the system refuses an operation; the store is unchanged.
    """
    container, skipped = found.container, found.skipped
    tops: list[Layer] = []
    loaded: list[ImageFiles] = []
    verified: set[str] = set()
    try:
        for image in found.images:
            try:
                if image.layers:
                    tops.append(_register(store, container, image, progress, verified))
            except (InvalidImage, MaxDepthExceeded) as error:
                if not skip_invalid:
                    raise
                what = ", ".join(map(str, image.names)) or image.config.image_id
                skipped.append(Skipped(what, "invalid", str(error).removeprefix(f"{container.name}: ")))
            else:
                loaded.append(image)
        groups = _groups_of(found, loaded)
        plan = incoming(container, groups, skipped)
        directory = store.context.scratch_directory()
        with (
            Documents(store.context.kept, container, plan.documents.values(), directory) as documents,
            store.context.changing_images(),
        ):
            _record(store.context, documents, loaded, groups, plan)
    except BaseException:
        for top in reversed(tops):
            store.release(top, only_made=True)
        raise
    store.context.note_use(top.chain_id for top in tops)
    try:
        compressed.learn(container, loaded, verified)
    except (LayerStoreError, OSError) as error:  # only a later save needs these records: the images are loaded
        logger.warning(
            "cannot record how layers of {} were compressed; they may be saved with other digests: {}",
            container.name,
            error,
        )
    finally:
        # The image records refer to the layers: the handles are no longer needed.
        for top in tops:
            top.close()
    names: dict[ImageID, set[Reference]] = {image.config.image_id: set() for image in loaded}
    for group in groups:
        for image in group.images:
            names[image.config.image_id].update(group.names)
    return Loaded(loaded, names, plan.referrers)


def _groups_of(found: FoundImages, loaded: Sequence[ImageFiles]) -> list[ImageGroup]:
    """Return the groups without the images that were not loaded."""
    there = {image.config.image_id for image in loaded}
    left = [
        replace(group, images=tuple(image for image in group.images if image.config.image_id in there))
        for group in found.groups
    ]
    return [group for group in left if group.images]


def _register(
    store: LayerStore, container: Container, image: ImageFiles, progress: LayerProgress | None, verified: set[str]
) -> Layer:
    """Register the layers of an image; return a handle to the topmost one.

    The digests of the blobs that were read, and so verified, are added to `verified`. Layers that the store has are not
    read.
    """
    read: set[str] = set()

    def input_of(number: int, layer: LayerFile) -> LayerInput:
        name = f"layer {number} of {len(image.layers)} ({layer.path})"
        report = progress(name, container.size(layer.path)) if progress and layer.present else None
        return LayerInput(
            partial(_open, container, layer, read),
            layer.diff_id,
            name,
            compressed_descriptor(layer),
            report,
            getattr(container, "cancel", None),
        )

    try:
        top = store.register_chain([input_of(number, layer) for number, layer in enumerate(image.layers, 1)])
    except InvalidLayer as error:
        raise InvalidImage(f"{container.name}: image {image.config.image_id}: {error}") from error
    verified |= read
    return top


def _open(container: Container, layer: LayerFile, read: set[str]) -> BinaryIO:
    file = container.open(layer.path)
    if layer.descriptor is not None:
        read.add(layer.descriptor.digest)
    # The digest of an uncompressed blob is its diff ID, which the store verifies anyway.
    if layer.descriptor is None or layer.descriptor.digest == layer.diff_id:
        return file
    return cast("BinaryIO", VerifiedBlob(file, layer.descriptor.digest))


def _record(
    context: StoreContext,
    documents: Documents,
    images: Sequence[ImageFiles],
    groups: Sequence[ImageGroup],
    plan: Incoming,
) -> None:
    """Record all images, what belongs to them, and their names; on an error, undo what was done."""
    records, kept = context.image_db, context.kept
    loaded = {image.config.image_id for image in images}
    with ExitStack() as undo:
        documents.write(lambda digest: undo.callback(inside.unlink, kept.path_of(digest), missing_ok=True))
        to_be_named = {image.config.image_id for group in groups for image in group.images if group.names}
        for image in images:
            image_id = image.config.image_id
            if not records.has(image_id):
                undo.callback(records.remove, image_id)
            parent = image.parent if image.parent in loaded else None
            records.add(image.config.data, parent, unnamed=image_id in to_be_named)
        for image_id, origin in plan.images.items():
            before = kept.of_image(image_id)
            undo.callback(kept.set_image, image_id, before)
            kept.set_image(image_id, origin)
        if plan.names:
            origins = kept.names()
            undo.callback(kept.set_names, origins)
            changed, left_out = fit_names(origins, plan.names, from_outside=True)
            if left_out:
                logger.warning(
                    "{}: {} gets its image, but not what the layout has for the name (other platforms, annotations): "
                    "there is no room for more; remove names that are not needed",
                    documents.source,
                    ", ".join(left_out[:10]),
                )
            kept.set_names(changed)
        if names := {str(name): group.images[0].config.image_id for group in groups for name in group.names}:
            for image_id in dict.fromkeys(names.values()):
                records.set_last_updated(image_id)
            records.set_names({**records.names(), **names})  # last: an error means that nothing changed
        undo.pop_all()
    records.finish(loaded)  # also of one that was there: a removal that was killed may have marked it
