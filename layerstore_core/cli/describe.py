"""A layer, a writable layer and an image as JSON objects; the keys are documented in `docs/cli.md` and do not change."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from layerstore_core.errors import LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.base.digests import ChainID, ImageID
    from layerstore_core.images.image import Image
    from layerstore_core.records.layer_record import MountRecord
    from layerstore_core.store.handles import Layer, RWLayer
    from layerstore_core.store.store import LayerStore

_SHORT: Final = 12


def layer_document(layer: Layer, *, pinned: bool) -> dict[str, Any]:
    """The layer's identity and its sizes in bytes."""
    return {
        "chain_id": str(layer.chain_id),
        "diff_id": str(layer.diff_id),
        "parent": None if layer.parent_id is None else str(layer.parent_id),
        "size": layer.size,
        "diff_size": layer.diff_size,
        "pinned": pinned,
    }


def parent_of(layer: RWLayer) -> str | None:
    """The chain ID of the parent, `None` where there is none."""
    parent = layer.parent
    return None if parent is None else str(parent.chain_id)


def rw_document(record: MountRecord) -> dict[str, Any]:
    """The writable layer's name, what it stands on, and the driver's ID for it."""
    return {"name": record.name, "parent": record.parent, "mount_id": record.mount_id}


def rw_documents(store: LayerStore) -> list[dict[str, Any]]:
    """All writable layers that can be loaded, by name.

    No handles are taken: who only looks must not keep another process from removing one.
    """
    documents = []
    for name in store.rw_layers():
        try:
            documents.append(rw_document(store.context.db.read_mount(name)))
        except (LayerStoreError, OSError):
            if store.context.db.has_mount(name):
                raise
            # Another process has just removed it.
    return documents


def image_document(image: Image) -> dict[str, Any]:
    """The image's identity, its names, and the size of its layers in bytes."""
    return {
        "id": str(image.image_id),
        "names": list(image.names),
        "created": image.created,
        "size": image.size,
        "chain_id": None if image.chain_id is None else str(image.chain_id),
        "diff_ids": [str(diff_id) for diff_id in image.diff_ids],
    }


def short_length(names: Collection[ChainID | ImageID]) -> int:
    """How many hex digits to show so that each of `names` can be told from the others."""
    length = _SHORT
    while len({name.hex[:length] for name in names}) < len(names):
        length += 4
    return length


def holders(store: LayerStore, chain: ChainID) -> tuple[list[str], list[str]]:
    """What of this store stands on the layer: the chain IDs of its children, and the names of writable layers."""
    children = sorted(str(c) for c, layer in store.layers().items() if layer.parent_id == chain)
    mounts = [document["name"] for document in rw_documents(store) if document["parent"] == chain]
    return children, mounts
