"""Layers, writable layers and images as JSON objects, and configs as lines.

`docs/cli.md` documents the keys of JSON objects, which do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from layerstore_core.base.times import format_rfc3339
from layerstore_core.cli import output
from layerstore_core.errors import LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.base.digests import ChainID, ImageID
    from layerstore_core.images.image import Image
    from layerstore_core.records.kept import Referrer
    from layerstore_core.records.layer_record import MountRecord
    from layerstore_core.records.snapshots.rows import SnapshotRow
    from layerstore_core.store.handles import Layer, RWLayer
    from layerstore_core.store.nodes import RemovedLayer
    from layerstore_core.store.store import LayerStore

#: How many hex digits of an ID people see, if these are enough.
SHORT: Final = 12


def layer_document(layer: Layer, *, pinned: bool) -> dict[str, Any]:
    """Return the layer's IDs and its sizes in bytes."""
    return {
        "chain_id": str(layer.chain_id),
        "diff_id": str(layer.diff_id),
        "parent": None if layer.parent_id is None else str(layer.parent_id),
        "size": layer.size,
        "diff_size": layer.diff_size,
        "pinned": pinned,
    }


def parent_of(layer: RWLayer) -> str | None:
    """Return the chain ID of the parent, or `None` if there is no parent."""
    parent = layer.parent
    return None if parent is None else str(parent.chain_id)


def rw_document(record: MountRecord) -> dict[str, Any]:
    """Return the writable layer's name, its parent's chain ID, and the driver's ID for it."""
    return {"name": record.name, "parent": record.parent, "mount_id": record.mount_id}


def rw_documents(store: LayerStore) -> list[dict[str, Any]]:
    """Return all writable layers that can be loaded, sorted by name.

    This opens no handles: a listing must not keep another process from removing a layer.
    """
    documents = []
    for name in store.rw_layers():
        try:
            documents.append(rw_document(store.context.db.read_mount(name)))
        except (LayerStoreError, OSError):
            if store.context.db.has_mount(name):
                raise
            # Another process has just removed the writable layer.
    return documents


def snapshot_document(row: SnapshotRow) -> dict[str, Any]:
    """Return a snapshot of an engine: its key, kind and parent, its layer, and when it was made."""
    return {
        "key": row.key,
        "kind": row.kind,
        "parent": row.parent or None,
        "chain_id": None if row.chain_id is None else str(row.chain_id),
        "cache_id": row.driver_id or None,
        "created": format_rfc3339(row.created),
        "labels": dict(row.labels),
    }


def removed_document(removed: Iterable[RemovedLayer]) -> dict[str, Any]:
    """Return the removed layers as a JSON object; sizes are in bytes."""
    return {
        "removed": [
            {
                "chain_id": str(layer.chain_id),
                "diff_id": str(layer.diff_id),
                "size": layer.size,
                "diff_size": layer.diff_size,
            }
            for layer in removed
        ]
    }


def image_document(image: Image) -> dict[str, Any]:
    """Return the image's IDs, its names, and the size of its layers in bytes."""
    return {
        "id": str(image.image_id),
        "names": list(image.names),
        "platform": None if image.platform is None else str(image.platform),
        "created": image.created,
        "size": image.size,
        "chain_id": None if image.chain_id is None else str(image.chain_id),
        "diff_ids": [str(diff_id) for diff_id in image.diff_ids],
    }


def referrer_document(referrer: Referrer) -> dict[str, Any]:
    """Return the digests of a referrer and of what it refers to, and the type of the artifact, if that is known."""
    kind = referrer.descriptor.get("artifactType")
    return {"digest": referrer.digest, "subject": referrer.subject, "type": kind if isinstance(kind, str) else None}


def image_answer(image: Image) -> tuple[dict[str, Any], Callable[[], list[str]]]:
    """Return the answer of a command that has made an image: its document, and its ID for people and scripts."""
    return image_document(image), lambda: [str(image.image_id)]


def short_length(names: Collection[ChainID | ImageID]) -> int:
    """Return how many hex digits make each of `names` differ from the others: 12 or more."""
    length = SHORT
    while len({name.hex[:length] for name in names}) < len(names):
        length += 4
    return length


def users_of(store: LayerStore, chain: ChainID) -> tuple[list[str], list[str]]:
    """Return the chain IDs of the layer's children, and the names of the writable layers on it."""
    children = sorted(str(c) for c, layer in store.layers().items() if layer.parent_id == chain)
    mounts = [document["name"] for document in rw_documents(store) if document["parent"] == chain]
    return children, mounts


def details_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields of an image's config, how many referrers it has, and its annotations."""
    if document["config"] is not None:
        yield from config_lines(document["config"])
    if document["referrers"]:
        yield field_line("Referrers", str(len(document["referrers"])))
    if document["annotations"]:
        yield "Annotations:"
        yield from (f"  {output.printable(key)}={text_of(value)}" for key, value in document["annotations"].items())


def config_lines(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields of a config as they are named there: a line for each value, and for each item of a list."""
    if isinstance(author := config.get("author"), str) and author:
        yield field_line("Author", author)
    execution = config.get("config")
    if not isinstance(execution, dict):
        return
    yield "Config:"
    for key, value in execution.items():
        if value in (None, "", [], {}, False):
            continue
        name = output.printable(str(key))
        if key in ("Entrypoint", "Cmd", "Shell"):  # the borders of its words matter
            yield f"  {name}: {text_of(value)}"
        elif isinstance(value, list):
            yield f"  {name}:"
            yield from (f"    {text_of(item)}" for item in value)
        elif isinstance(value, dict):
            yield f"  {name}:"
            for inner, item in value.items():
                yield f"    {output.printable(inner)}{'' if item in ({}, None) else '=' + text_of(item)}"
        else:
            yield f"  {name}: {text_of(value)}"


def text_of(value: Any) -> str:
    """Return a value of a config in one line: a text as it is, anything else as JSON."""
    if isinstance(value, str):
        return output.printable(value)
    import json

    return output.printable(json.dumps(value, ensure_ascii=False), backslash=False)  # JSON has its own escapes


def field_line(name: str, value: str) -> str:
    """Return a line with a field's name and value."""
    return f"{name + ':':<13}{output.printable(value)}"
