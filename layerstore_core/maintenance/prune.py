"""Removing images that were not used for some time, and layers without references, from a cache that grows."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from layerstore_core.base.digests import ChainID, ImageID
from layerstore_core.errors import BadRecord, LayerStoreError, keeping_done
from layerstore_core.images.api.images import Images
from layerstore_core.images.filters import ImageFilter
from layerstore_core.images.keep.recipe import Recipes
from layerstore_core.images.remote.receive.leftovers import remove_leftover, unneeded
from layerstore_core.images.remove import remove_recorded, tidy
from layerstore_core.log import logger
from layerstore_core.maintenance.kept import kept_bytes
from layerstore_core.maintenance.usage import Census, is_in_use
from layerstore_core.records.blob_sources import BlobSources
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.store.context import StoreContext
from layerstore_core.store.delete import delete_unreferenced
from layerstore_core.store.nodes import LayerNode, RemovedLayer
from layerstore_core.store.store import LayerStore

#: This many images are removed, with their names, by one change of the file of names.
_BATCH: Final = 100


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be; false if it is nothing.

    Attributes:
        untagged: the names of the images.
        deleted: the images, those that were built from another one before that.
        layers: the layers, children before their parents.
        kept: the bytes of manifests and other documents, and of compressed layers, that were kept for them.
        downloads: the bytes of what interrupted pulls have received, a week ago, or of layers that are here.
    """

    untagged: list[str] = field(default_factory=list)
    deleted: list[ImageID] = field(default_factory=list)
    layers: list[RemovedLayer] = field(default_factory=list)
    kept: int = 0
    downloads: int = 0

    def __bool__(self) -> bool:
        return bool(self.untagged or self.deleted or self.layers or self.kept or self.downloads)

    @property
    def bytes(self) -> int:
        """The recorded bytes of the layers, and those of what was kept for them and the images, and of downloads."""
        return sum(layer.diff_size for layer in self.layers) + self.kept + self.downloads


@dataclass(frozen=True, slots=True, eq=False)
class _Unit:
    """Images that can only be removed together, because a name stands for several of them.

    Attributes:
        images: the images.
        names: all their names.
        parents: the images that they were built from, besides themselves, and how many of them were.
    """

    images: tuple[ImageID, ...]
    names: tuple[str, ...]
    parents: Mapping[ImageID, int]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The images to remove, and what is free then: layers, each after its children, and bytes of what is kept."""

    units: list[_Unit]
    layers: list[LayerNode]
    children: Mapping[ImageID, Collection[ImageID]]
    kept: int


def prune(
    store: LayerStore,
    *,
    named: bool | None = None,
    older_than: float | None = None,
    keep_storage: int | None = None,
    chosen: ImageFilter | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove images that are not in use, the one that was used last of all at the end; and layers without references.

    An image is in use if a writable layer, a mount, a process or a snapshot of an engine uses its topmost layer, if
    that is pinned, or if an image that stays was built from it. All conditions have to be fulfilled.

    Args:
        store: an open store.
        named: whether to remove images that have a name, too. `None`: only with `older_than` or `keep_storage`, which
            say which of them are not needed.
        older_than: remove only images that were not used for this many seconds.
        keep_storage: stop as soon as what stays has at most this many bytes: the recorded bytes of layers, and what
            is kept with images and layers.
        chosen: remove only images all of whose names fulfil these conditions.
        dry_run: return what would be removed, and leave it.

    Returns:
        What was removed.

    Raises:
        LayerStoreError: something that may refer to any layer cannot be read: nothing is removed.
        ImageDoesNotExist: an image that a condition names is missing.
        OSError: something could not be removed; the error's attribute `done` has what was removed before.
    """
    if named is None:
        named = older_than is not None or keep_storage is not None
    before = None if older_than is None else time.time() - older_than
    if dry_run:
        plan = _plan(store, named=named, before=before, keep_storage=keep_storage, chosen=chosen)
        return Pruned(
            [name for unit in plan.units for name in unit.names],
            [image for unit in plan.units for image in unit.images],
            [_removed(node) for node in plan.layers],
            plan.kept,
            sum(leftover.bytes for leftover in unneeded(store)),
        )
    done = Pruned()
    # One prune at a time, and no load meanwhile: see `Images.remove`.
    with keeping_done(done, done.layers.extend), store.context.changing_images() as records:
        plan = _plan(store, named=named, before=before, keep_storage=keep_storage, chosen=chosen)
        before_bytes = kept_bytes(store.context)
        _remove_images(store.context, records, plan, done)
        gone: set[ChainID] = set()
        for node in plan.layers:
            if node.record.chain_id not in gone:  # with a child of it
                removed = delete_unreferenced(store.context, node)
                gone.update(layer.chain_id for layer in removed)
                done.layers.extend(removed)
        Recipes(store.root, store.driver_name).keep_only(layer.diff_id for layer in store.layers().values())
        tidy(store)
        BlobSources(records.path).keep_only({layer.diff_id for layer in store.layers().values()})
        store.context.last_used.keep_only(set(store.chain_ids()))
        downloads = sum(leftover.bytes for leftover in unneeded(store) if remove_leftover(leftover))
        return replace(done, kept=before_bytes - kept_bytes(store.context), downloads=downloads)


def _plan(
    store: LayerStore, *, named: bool, before: float | None, keep_storage: int | None, chosen: ImageFilter | None
) -> _Plan:
    """Choose what to remove; errors as `prune`."""
    context = store.context
    if unreadable := store.unreadable():
        raise LayerStoreError(
            f"nothing is pruned, because any layer may be referenced: {unreadable[0]}; `layerstore check` says more"
        )
    census = Census(context)
    children = context.image_db.references().children
    fitting = _fitting(store, census, chosen)
    units = list(_units(census, children))
    unit_of = {image: unit for unit in units for image in unit.images}
    # How many images that are still there were built from the images of a unit.
    waiting = {
        unit: sum(
            child in unit_of and unit_of[child] is not unit
            for image in unit.images
            for child in children.get(image, ())
        )
        for unit in units
    }
    ready: list[tuple[float, tuple[ImageID, ...], _Unit]] = []

    def add(unit: _Unit) -> None:
        if waiting[unit] or (unit.names and not named):
            return
        if not fitting.issuperset(unit.images) or any(map(census.is_in_use, unit.images)):
            return
        used = max(map(census.last_used, unit.images))
        if before is None or used <= before:
            heapq.heappush(ready, (used, unit.images, unit))

    for unit in units:
        add(unit)
    removed: list[_Unit] = []
    while ready and (keep_storage is None or census.size > keep_storage):
        unit = heapq.heappop(ready)[2]
        removed.append(unit)
        for image in unit.images:
            census.remove(image)
        above = {unit_of[parent]: None for parent in unit.parents if parent in unit_of}
        for parent, count in unit.parents.items():
            if parent in unit_of:
                waiting[unit_of[parent]] -= count
        for one in above:
            add(one)
    return _Plan(removed, list(_children_first(census)), children, census.kept.all_bytes - census.kept_size)


def _fitting(store: LayerStore, census: Census, chosen: ImageFilter | None) -> set[ImageID]:
    """Return the images of which all names fulfil the conditions."""
    if chosen is None or chosen == ImageFilter():
        return set(census.chains)
    found = Images(store).all(chosen)
    return {image.image_id for image in found if image.names == census.names.get(image.image_id, ())}


def _units(census: Census, children: Mapping[ImageID, Collection[ImageID]]) -> Iterator[_Unit]:
    """Yield the units of all images that can be read."""
    parent_of = {child: parent for parent, built in children.items() for child in built}
    seen: set[ImageID] = set()
    for start in census.chains:
        if start in seen:
            continue
        images, names, pending = {start: None}, dict.fromkeys(census.names.get(start, ())), [start]
        while pending:
            for name in census.names.get(pending.pop(), ()):
                names[name] = None
                for other in census.members[name]:
                    if other not in images:
                        images[other] = None
                        pending.append(other)
        seen.update(images)
        parents = Counter(parent_of[image] for image in images if image in parent_of and parent_of[image] not in images)
        # A damaged image is none of the census, and keeps the others of its name.
        if all(image in census.chains for image in images):
            yield _Unit(tuple(images), tuple(sorted(names)), parents)


def _children_first(census: Census) -> Iterator[LayerNode]:
    """Yield the free layers, as `delete_unreferenced` removes them: a layer, then its parent if that has no more."""
    left = {chain: len(census.nodes[chain].children) for chain in census.free}
    for chain in sorted(chain for chain, count in left.items() if not count):
        node: LayerNode | None = census.nodes[chain]
        while node is not None and left.get(node.record.chain_id) == 0:
            del left[node.record.chain_id]
            yield node
            node = node.parent
            if node is not None and node.record.chain_id in left:
                left[node.record.chain_id] -= 1


def _remove_images(context: StoreContext, records: ImageDB, plan: _Plan, done: Pruned) -> None:
    """Remove the planned images that are still not in use, with their names."""
    names = records.names()
    kept: set[ImageID] = set()
    for start in range(0, len(plan.units), _BATCH):
        with ExitStack() as locked:
            locked.enter_context(context.catalog.lock)
            context.catalog.refresh()
            batch = []
            for unit in plan.units[start : start + _BATCH]:
                if kept.isdisjoint(unit.images) and all(_lock(context, locked, image) for image in unit.images):
                    batch.append(unit)
                else:
                    kept |= unit.parents.keys()  # an image that stays was built from them
            images = [image for unit in batch for image in unit.images]
            untagged = [name for unit in batch for name in unit.names]
            for name in untagged:
                del names[name]
            remove_recorded(records, images, names, untagged, children=plan.children, done=done)
            for image in images:
                logger.info("removed image {}", image)


def _lock(context: StoreContext, locked: ExitStack, image: ImageID) -> bool:
    """Lock an image's topmost layer against new references, and return whether it is still not in use."""
    try:
        top = context.image_db.top_layer(image)
        node = None if top is None else context.catalog.find_layer(top)
    except (BadRecord, OSError):
        return False
    if node is None:  # no layers, or the record is missing: it cannot be used
        return True
    alone = locked.enter_context(context.locks.lock_references(node.lock_key))
    return (
        alone
        and not is_in_use(context, node, pins=context.pins)
        and not context.snapshots.references_to(node.record.chain_id)
    )


def _removed(node: LayerNode) -> RemovedLayer:
    return RemovedLayer(node.record.chain_id, node.record.diff_id, node.chain_size, node.record.size)
