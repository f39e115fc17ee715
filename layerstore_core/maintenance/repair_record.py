"""Repair a layer's record from what is left of it: the other files and the content often determine the damaged one.

A record's name is the chain ID, which its parent's chain ID and its diff ID determine; the diff ID is the digest of
the tar, which the driver's layer and the tar-split lines make. Each repair is proved by that digest.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from layerstore_core.base import inside
from layerstore_core.base.atomic import write_file
from layerstore_core.base.digests import ChainID, DiffID, chain_id
from layerstore_core.base.inside import flush
from layerstore_core.errors import BadRecord, LayerStoreError
from layerstore_core.maintenance.sizes import SizeCounter
from layerstore_core.records.layer_record import CACHE_ID, read_digest, read_driver_id
from layerstore_core.store.export import tar_chunks
from layerstore_core.store.store import LayerStore
from layerstore_core.store.strays import Strays
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner

_DESCRIPTOR: Final = "descriptor.json"
_LONGEST_FIELD: Final = 1 << 12


class Found(NamedTuple):
    """The right content of a record."""

    parent: ChainID | None
    diff_id: DiffID
    cache_id: str
    size: int


def repair_record(store: LayerStore, directory: Path, candidates: Iterable[str] = ()) -> str:
    """Repair a damaged record of a layer.

    Args:
        store: an open store.
        directory: the record.
        candidates: layers of the driver that may be its own, though other records name them.

    Returns:
        What was done, in a sentence; empty where nothing could be done.

    Raises:
        OSError: it could not be written.
    """
    name = ChainID.from_hex(directory.name)
    try:
        found = _find(store, name, directory, candidates)
    except (LayerStoreError, OSError):
        return ""
    if found is None:
        return ""
    wanted: dict[str, str | None] = {
        "parent": found.parent,
        "diff": found.diff_id,
        CACHE_ID: found.cache_id,
        "size": str(found.size),
    }
    with store.context.changing_records() as db:
        changed = [field for field, text in wanted.items() if write_field(store, directory / field, text)]
        try:
            db.read(name)
        except LayerStoreError:
            if inside.exists(directory / _DESCRIPTOR):
                store.context.quarantine.put(directory / _DESCRIPTOR, f"{name.hex[:12]}-{_DESCRIPTOR}")
                changed.append(_DESCRIPTOR)
        flush(directory)
        db.read(name)
    return f"{', '.join(changed)} of its record restored; its tar has the right digest"


def _find(store: LayerStore, name: ChainID, directory: Path, others: Iterable[str]) -> Found | None:
    layers = store.layers()
    parent = read_digest(ChainID, directory / "parent")
    parents: list[ChainID | None] = [parent, None, *layers]
    diff_id = read_digest(DiffID, directory / "diff")
    cache_id = read_driver_id(directory / CACHE_ID)
    if diff_id is not None:
        # Where no parent fits, the diff ID may be another layer's, and the content has to decide.
        parents = [one for one in parents if chain_id(diff_id, one) == name][:1] or parents
    named = [cache_id] if cache_id and store.driver.exists(cache_id) else []
    for candidate in dict.fromkeys([*named, *others] if named else [*others, *Strays(store.context).ids]):
        parent_id = layers[parents[0]].cache_id if parents and parents[0] is not None and parents[0] in layers else ""
        try:
            digest, size = _read_through(store, name, candidate, parent_id)
        except (LayerStoreError, OSError):
            continue
        for one in parents:
            if chain_id(digest, one) == name:
                return Found(one, digest, candidate, size)
    return None


def _read_through(store: LayerStore, name: ChainID, cache_id: str, parent_id: str) -> tuple[DiffID, int]:
    """Return the digest of the tar that a record's lines and a layer of the driver make, and the layer's size."""
    digest = hashlib.sha256()
    with ExitStack() as opened:
        chunks = iter(tar_chunks(store.context, name, cache_id, parent_id, opened=opened))

        def read() -> bytes:
            for chunk in chunks:
                if chunk:
                    digest.update(chunk)
                    return chunk
            return b""

        stream = LayerStream(TarScanner(read))
        size = SizeCounter()
        for entry in stream.entries():
            size.add(entry)
        stream.drain()
    return DiffID.from_hex(digest.hexdigest()), size.total


def write_field(store: LayerStore, path: Path, text: str | None) -> bool:
    """Write a file of a record if its content differs, keep the former file, and return whether it was changed."""
    if text is None:
        if not inside.exists(path):
            return False
    elif _content(path) == text:
        return False
    if inside.exists(path):
        store.context.quarantine.put(path, f"{path.parent.name[:12]}-{path.name}")
    if text is not None:
        partial = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        write_file(partial, text.encode())
        flush(partial)
        inside.rename(partial, path)
    return True


def _content(path: Path) -> str | None:
    try:
        return inside.read(path, _LONGEST_FIELD).decode("ascii", "replace").strip()
    except (BadRecord, OSError):
        return None


def damaged_layers(store: LayerStore) -> Iterator[Path]:
    """Yield the records of layers that are damaged themselves, not only those whose parents are."""
    for chain in store.chain_ids():
        try:
            store.context.db.read(chain)
        except (LayerStoreError, OSError):
            if store.context.db.has_layer(chain):
                yield store.context.db.layer_path(chain)
