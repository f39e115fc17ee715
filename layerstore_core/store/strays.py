"""Strays: layers of the driver that no record names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Final

from layerstore_core.base.digests import ChainID
from layerstore_core.errors import BadRecord, LayerStoreError
from layerstore_core.records.claims import is_record
from layerstore_core.records.layer_record import LayerRecord, MountRecord, driver_ids
from layerstore_core.records.snapshots.records import SUFFIX
from layerstore_core.store.context import StoreContext

#: The IDs that layer stores give, this one and Docker's. All else in the driver is not theirs: the snapshots of
#: Docker's builder are next to its layers, and are named in a database of their own.
_STORE_ID: Final = rf"[0-9a-f]{{64}}(-init|{SUFFIX})?"


class Strays:
    """The layers of the driver, compared with those that the records name.

    A new layer is recorded before the driver creates it. So a layer that the driver has, and that is looked up in the
    records afterwards, is never one that another process is creating.

    Args:
        context: an open store.
        lock: whether to lock the records; a caller that has locked them does not. Unlocked, only `ids` is right.

    Attributes:
        ids: the driver's layers that no record names, children before their parents as far as that is known; without
            those of snapshots.
        nameless: records whose layer is not known and may be among `ids`. They do not name their layer, name one that
            is not there, or one that another record names, too; or they are missing although children, pins or images
            name them.
        lost: the directories of records that are missing: the layers of those records may be among `ids`.
        snapshots: the same of snapshots' layers, which are never those of other records: they are certain to be strays.
        of_snapshots: the layers of snapshots, if their records cannot be read: none of these is among `snapshots`.
        bad_snapshots: why they cannot be read.
    """

    def __init__(self, context: StoreContext, *, lock: bool = True) -> None:
        candidates = [layer_id for layer_id in context.driver.layer_ids() or () if re.fullmatch(_STORE_ID, layer_id)]
        self.ids: list[str] = []
        self.snapshots: list[str] = []
        self.nameless: list[Path] = []
        self.lost: list[Path] = []
        self.of_snapshots: list[str] = []
        self.bad_snapshots: BadRecord | None = None
        if not candidates:
            return
        recorded = self._of_snapshots(context, candidates)
        with context.locking_records() if lock else nullcontext():
            # In this order: a record moves from the work under way to the records, and from there to the deletions.
            under_way = set(_ids_at(context.db.transactions()))
            layers = {layer: context.db.cache_id(layer) for layer in context.db.list_layers()}
            known = {*under_way, *layers.values(), *_other_ids(context), *recorded}
            # Again: a layer whose deletion has finished meanwhile has neither a record nor a layer of the driver.
            present = set(context.driver.layer_ids() or ())
            self.nameless = list(_nameless(context, layers, present))
            unnamed = [one for one in candidates if one in present and one not in known]
            self.ids = sorted((one for one in unnamed if not one.endswith(SUFFIX)), key=_order)
            self.snapshots = _children_first(context, [one for one in unnamed if one.endswith(SUFFIX)])
            if self.ids:
                self.nameless += [*_missing(context), *_without_init(context, set(self.ids)), *context.db.displaced()]
            self.lost = context.db.missing_directories()

    def _of_snapshots(self, context: StoreContext, candidates: list[str]) -> set[str]:
        """Return the layers that snapshots have: all that look like it, where their records cannot be read."""
        unsure = {layer_id for layer_id in candidates if layer_id.endswith(SUFFIX)}
        recorded: set[str] = set()
        try:
            # After the candidates: a layer is recorded before the driver creates it. Before the layers that the driver
            # has now: a record is deleted after the driver has removed the layer.
            recorded = context.snapshots.driver_ids()
            self.bad_snapshots = context.snapshots.lost(unsure)
        except BadRecord as error:
            self.bad_snapshots = error
        except OSError as error:
            self.bad_snapshots = BadRecord(context.snapshots.path, f"it cannot be read: {error.strerror}")
        if self.bad_snapshots is None:
            return recorded
        self.of_snapshots = sorted(unsure)
        return unsure

    @property
    def certain(self) -> bool:
        """Whether none of `ids` can be a layer that is still needed."""
        return not self.nameless and not self.lost


def _children_first(context: StoreContext, ids: list[str]) -> list[str]:
    """Sort layers of snapshots: a parent after its children, if the driver knows it."""
    parents: dict[str, str | None] = {}
    for layer_id in ids:
        with suppress(LayerStoreError, OSError):  # only a part of a layer
            parents[layer_id] = context.driver.parent_of(layer_id, "")

    def depth(layer_id: str) -> int:
        seen: set[str | None] = {layer_id}
        current = parents.get(layer_id)
        while current in parents and current not in seen:
            seen.add(current)
            current = parents[current]
        return len(seen)

    return sorted(ids, key=lambda layer_id: (-depth(layer_id), layer_id))


def _order(layer_id: str) -> tuple[str, bool]:
    return layer_id.removesuffix("-init"), layer_id.endswith("-init")


def _other_ids(context: StoreContext) -> Iterator[str]:
    """Yield the driver's layers that writable layers, deletions and the quarantine name."""
    db = context.db
    yield from _ids_at(map(db.mount_path, db.list_mounts()))
    yield from _ids_at(db.deletions())
    yield from _ids_at(context.quarantine.entries())


def _ids_at(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        yield from driver_ids(path)


def _nameless(context: StoreContext, layers: Mapping[ChainID, str | None], present: set[str]) -> Iterator[Path]:
    """Yield the records that do not name their layer of the driver, name one that it has not, or that of another."""
    db = context.db
    named: set[str | None] = set()
    for layer, cache_id in layers.items():
        if (cache_id not in present or cache_id in named) and db.has_layer(layer):
            yield db.layer_path(layer)
        named.add(cache_id)
    for path in context.quarantine.entries():
        if is_record(path) and not driver_ids(path):
            yield path
    for name in db.list_mounts():
        if not db.has_mount(name):
            continue
        try:
            record = db.read_mount(name)
        except (LayerStoreError, OSError):
            yield db.mount_path(name)
            continue
        if not {record.mount_id, record.init_id or record.mount_id} <= present:
            yield db.mount_path(name)


def _without_init(context: StoreContext, strays: set[str]) -> Iterator[Path]:
    """Yield the records of writable layers with an init layer, as the driver knows, that the record does not name."""
    for name in context.db.list_mounts():
        mount_id = context.db.mount_id(name)
        init_id = f"{mount_id}-init"
        if mount_id and init_id in strays and context.driver.parent_of(mount_id, init_id) == init_id:
            yield context.db.mount_path(name)


def _missing(context: StoreContext) -> list[Path]:
    """Return records that do not exist although children, pins or images name them. Their layers may well exist."""
    db = context.db
    there = {layer for layer in db.list_layers() if db.has_layer(layer)}
    readers: list[Callable[[], LayerRecord | MountRecord]] = [partial(db.read, layer) for layer in there]
    readers += [partial(db.read_mount, name) for name in db.list_mounts() if db.has_mount(name)]
    named = set(context.image_db.references().layers)
    with suppress(LayerStoreError, OSError):  # a finding of its own
        named |= set(context.pins)
    missing = {db.layer_path(layer) for layer in named - there}
    for read in readers:
        try:
            parent = read().parent
        except (LayerStoreError, OSError):  # a finding of its own
            continue
        if parent is not None and parent not in there:
            missing.add(db.layer_path(parent))
    return sorted(missing)
