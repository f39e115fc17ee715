"""Whether a pull would change nothing: then nothing is written, and no disk is flushed."""

from __future__ import annotations

from layerstore_core.base.digests import chain_ids
from layerstore_core.base.reference import Reference
from layerstore_core.errors import BadRecord
from layerstore_core.images.formats.found import FoundImages
from layerstore_core.images.transfer.load import Loaded
from layerstore_core.store.context import StoreContext


def already_loaded(context: StoreContext, found: FoundImages, digest: str) -> Loaded | None:
    """Return the result of loading an image whose layers, records and names are here already; otherwise `None`.

    Args:
        context: an open store.
        found: what would be loaded.
        digest: the digest of the manifest or index that its name stands for.
    """
    if len(found.images) != 1 or len(found.groups) != 1:
        return None
    image, names = found.images[0], found.groups[0].names
    image_id = image.config.image_id
    try:
        recorded = context.image_db.names()
        origins = context.kept.names()
        if not names or not context.image_db.has(image_id) or any(layer.present for layer in image.layers):
            return None
        for name in map(str, names):
            origin = origins.get(name, {}).get(image_id)
            if recorded.get(name) != image_id or origin is None:
                return None
            if origin.digest != digest or set(origin.images) != {image_id}:
                return None
            for document in origin.documents:
                context.kept.read(document)  # a damaged one is replaced by loading
    except (BadRecord, OSError):  # loading says so, or repairs it
        return None
    context.note_use(chain_ids(image.config.diff_ids)[-1:])
    named: set[Reference] = set(names)
    return Loaded([image], {image_id: named}, ())
