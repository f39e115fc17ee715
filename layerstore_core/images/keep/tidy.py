"""Collecting what belonged to images and layers that are gone: documents, origins, and kept blobs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from layerstore_core.base import inside
from layerstore_core.base.digests import ChainID, ImageID
from layerstore_core.images.keep.blobs import KeptBlobs
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.records.kept import Survey
from layerstore_core.store.store import LayerStore


def unused(store: LayerStore, survey: Survey, without: Collection[ChainID] = ()) -> list[Path]:
    """Return the files of what belongs to no image and no layer any more, and what interrupted processes have left.

    What may belong to an image or a layer whose records cannot be read is left out.

    Args:
        store: an open store, whose image records the caller has locked.
        survey: all origins, which were read after that.
        without: layers that are to count as removed.
    """
    found: list[Path] = []
    context = store.context
    if not context.image_db.unreadable():
        found += context.kept.unused(set(context.image_db.image_ids()), names_on_disk(context.image_db), survey)
    blobs = KeptBlobs(store.root, store.driver_name)
    if inside.has_entries(blobs.path) and not store.load_problems and not store.unreadable():
        gone = set(without)
        wanted = {layer.diff_id for chain, layer in store.layers().items() if chain not in gone}
        found += blobs.unused(wanted)
    return found


def forget(store: LayerStore, survey: Survey) -> None:
    """Remove the origins of images and names that are gone; see `unused`.

    Raises:
        BadRecord, OSError: they cannot be read or changed.
    """
    context = store.context
    if not context.image_db.unreadable() and not survey.unreadable:
        context.kept.forget(set(context.image_db.image_ids()), names_on_disk(context.image_db), survey)


def names_on_disk(records: ImageDB) -> dict[str, ImageID] | None:
    """Return Docker's list of names; `None` where it is missing."""
    return records.names() if inside.exists(records.names_path) else None
