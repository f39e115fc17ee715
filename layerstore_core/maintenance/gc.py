"""Garbage collection: find and remove unreferenced layers and unfinished work."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from layerstore_core.base import inside
from layerstore_core.base.digests import ImageID
from layerstore_core.errors import BadRecord, keeping_done
from layerstore_core.images.keep.tidy import forget, unused
from layerstore_core.images.remote.receive.leftovers import remove_leftover, unneeded
from layerstore_core.log import logger
from layerstore_core.records.blob_sources import BlobSources
from layerstore_core.store.delete import finish_deletion, remove_stale_transaction
from layerstore_core.store.mounts.read_only import end_stale_mounts
from layerstore_core.store.nodes import RemovedLayer
from layerstore_core.store.store import LayerStore
from layerstore_core.store.strays import Strays
from layerstore_core.tree.walk import TreeWalk


@dataclass(frozen=True, slots=True)
class Removed:
    """Something that was collected, or would be.

    Attributes:
        kind: `"layer"`, `"unfinished removal"`, `"dead transaction"`, `"half-done image record"`,
            `"stray driver layer"`, `"stale mount"`, `"unfinished snapshot"`: one that was being made or removed by a
            process that has ended; `"unused document"`: a manifest, an artifact or a compressed layer that was kept
            with an image or a layer that is gone; or `"unfinished download"`: what an interrupted pull has received, a
            week ago, or of a layer that is here.
        name: the chain ID, the path, or the driver's ID.
        bytes: its size, as far as that is recorded or can be read.
    """

    kind: str
    name: str
    bytes: int


def collect_garbage(store: LayerStore, *, dry_run: bool = False) -> list[Removed]:
    """Remove layers to which no pin, image, handle, child or writable layer refers, and unfinished work.

    Safe while processes use the store: what they refer to or are creating is left alone. While something cannot be read
    that may refer to any layer, no layer is removed, and a warning says why. Layers of the driver that no record names
    are removed, too, unless a damaged record may be theirs.

    Args:
        store: an open store.
        dry_run: report what would be removed, and leave it.

    Returns:
        What was removed, children before their parents.

    Raises:
        OSError: something could not be removed; the error's attribute `done` has what was removed before.
    """
    removed: list[Removed] = []
    try:
        with keeping_done(removed, lambda layers: removed.extend(map(_of_layer, layers))):
            _collect(store, removed, dry_run=dry_run)
    finally:
        for item in removed:
            logger.info(
                "{} {} {}: {} bytes", "would remove" if dry_run else "removed", item.kind, item.name, item.bytes
            )
    return removed


def _collect(store: LayerStore, removed: list[Removed], *, dry_run: bool) -> None:
    for interrupted in store.context.db.interrupted_deletions():
        found = Removed("unfinished removal", str(interrupted.path), _size(interrupted.path))
        if not dry_run:
            finish_deletion(store.context, interrupted)
        removed.append(found)
    for stale in store.context.db.stale_transactions():
        found = Removed("dead transaction", str(stale.path), _size(stale.path))
        if dry_run or remove_stale_transaction(store.context, stale):
            removed.append(found)
    with nullcontext(store.context.image_db) if dry_run else store.context.changing_images() as images:
        for path in images.half_done(_members_of_names(store)):
            found = Removed("half-done image record", str(path), _size(path))
            if not dry_run:
                images.clear(path)
            removed.append(found)
    for mount_id in _unused_rw_images(store):
        path = store.context.rw_images.path_of(mount_id)
        found = Removed("unfinished removal", str(path), _size(path))
        if not dry_run:
            store.context.rw_images.remove(mount_id)
        removed.append(found)
    stale_mounts = end_stale_mounts(store.context, dry_run=dry_run)
    removed += [Removed("stale mount", mount.target or mount.name, 0) for mount in stale_mounts]
    for bad in store.unreadable():
        logger.warning("no layer is removed, because any may be referenced: {}; `layerstore check` says more", bad)
    removed += _unfinished_snapshots(store, dry_run=dry_run)
    unheld = store.unheld_layers()
    for layer in unheld:
        if dry_run:
            removed.append(Removed("layer", layer.chain_id, layer.diff_size))
        else:
            removed += map(_of_layer, store.collect(layer))
    removed += _strays(store, dry_run=dry_run)
    with nullcontext(store.context.image_db) if dry_run else store.context.changing_images() as images:
        survey = store.context.kept.survey()
        left = unused(store, survey, [layer.chain_id for layer in unheld] if dry_run else ())
        sizes = {path: _size(path) for path in left}

        def add(path: Path) -> None:
            removed.append(Removed("unused document", str(path), sizes[path]))

        if dry_run:
            for path in left:
                add(path)
        else:
            images.clear_all(left, add)
            forget(store, survey)
            BlobSources(images.path).keep_only({layer.diff_id for layer in store.layers().values()})
    for leftover in unneeded(store):
        if dry_run or remove_leftover(leftover):
            removed.append(Removed("unfinished download", str(leftover.path), leftover.bytes))
    if not dry_run:
        store.context.last_used.keep_only(set(store.chain_ids()))
        store.cleanup()


def _members_of_names(store: LayerStore) -> set[ImageID] | None:
    """Return all images that belong to names, also those for further platforms; `None` if they cannot be read."""
    from layerstore_core.images.keep.groups import members_of_names

    records = store.context.image_db
    try:
        store.context.kept.members()  # otherwise the next call takes each name for that of one image
        members = members_of_names(records, store.context.kept, records.names())
    except (BadRecord, OSError):
        return None
    return {image for images in members.values() for image in images}


def _unused_rw_images(store: LayerStore) -> list[str]:
    """Return the writable layers that are gone, of which the image is still recorded."""
    records, db = store.context.rw_images, store.context.db
    if not (recorded := records.recorded()):  # before the writable layers: see `RWImages.unused`
        return []
    creating = db.live_driver_ids()  # before those that are created, which these become
    mount_ids = [db.mount_id(name) for name in db.list_mounts()]
    return [] if None in mount_ids else records.unused(recorded, [*creating, *filter(None, mount_ids)])


def _unfinished_snapshots(store: LayerStore, *, dry_run: bool) -> list[Removed]:
    try:
        if not store.context.snapshots.exist():
            return []
    except (BadRecord, OSError):  # a warning says so: it may refer to any layer
        return []
    from layerstore_core.snapshots.remove import finish_left  # lazy: few stores have snapshots

    return [Removed("unfinished snapshot", row.key, 0) for row in finish_left(store.context, dry_run=dry_run)]


def _of_layer(gone: RemovedLayer) -> Removed:
    return Removed("layer", gone.chain_id, gone.diff_size)


def _strays(store: LayerStore, *, dry_run: bool) -> Iterator[Removed]:
    strays = Strays(store.context)
    if strays.of_snapshots:
        logger.warning(
            "the driver has {} layers of snapshots, which are kept, because their records cannot be read: {}",
            len(strays.of_snapshots),
            strays.bad_snapshots,
        )
    if strays.ids and not strays.certain:
        logger.warning(
            "the driver has {} layers that no record names; they are kept, because {}; `layerstore check` says more",
            len(strays.ids),
            f"{strays.lost[0]} is missing" if strays.lost else f"{strays.nameless[0]} does not name its layer",
        )
    for layer_id in (*strays.snapshots, *(strays.ids if strays.certain else ())):
        found = Removed("stray driver layer", layer_id, _stray_size(store, layer_id))
        if not dry_run:
            store.driver.remove(layer_id)
        yield found


def _stray_size(store: LayerStore, layer_id: str) -> int:
    """Return the size of the first of the directories in which the driver says that it keeps a layer."""
    try:
        places = map(Path, store.driver.metadata(layer_id).values())
        ours = [path for path in places if path.is_relative_to(store.driver.home)]
        return next((_size(path) for path in ours if inside.is_directory(path)), 0)
    except (OSError, ValueError, BadRecord):  # only a part of a layer
        return 0


def _size(path: Path) -> int:
    """Return the bytes in a file, or below a directory; what another collector removes meanwhile counts as 0."""
    total = 0
    try:
        status = inside.status(path)
        if not stat.S_ISDIR(status.st_mode):
            return status.st_size
        tree = TreeWalk(path)
    except FileNotFoundError:
        return 0
    pending = [b""]
    with tree:
        while pending:
            with suppress(FileNotFoundError), os.scandir(tree.enter(pending.pop())) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(tree.join(entry.name))
                    else:
                        with suppress(FileNotFoundError):
                            total += entry.stat(follow_symlinks=False).st_size
    return total
