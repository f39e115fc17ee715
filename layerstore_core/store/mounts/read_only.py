"""Mounting layers read-only, and ending such mounts, also those of processes that were killed in the middle.

The note of a mount is written first and removed last (`records`), so that a mount always keeps its layer. The driver's
own mount is kept as long as there is a note of the layer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.base.descriptors import Descriptor, open_fd
from layerstore_core.errors import BadRecord, LayerDoesNotExist, LayerStoreError
from layerstore_core.log import logger
from layerstore_core.store.context import StoreContext
from layerstore_core.store.mounts.attach import attach, detach, mount_id, mount_points, read_only_clone
from layerstore_core.store.mounts.records import TreeMount, TreeMounts, here
from layerstore_core.store.nodes import LayerNode

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def mounts_of(context: StoreContext) -> TreeMounts:
    """Return the notes of a store's read-only mounts."""
    return TreeMounts(context.root, context.driver.name)


def mount_tree(context: StoreContext, node: LayerNode, directory: str | None, *, keep: bool) -> TreeMount:
    """Mount a layer's tree read-only. The caller has a handle to the layer.

    Args:
        context: an open store.
        node: the layer.
        directory: the mount point, an existing directory; `None` for one below the root. With `keep`, a layer that is
            mounted there already is not mounted again.
        keep: let it stay mounted when this process ends. Otherwise the caller ends it, by `end_mount`.

    Raises:
        NotADirectoryError, FileNotFoundError: the mount point is no directory.
        LayerStoreError: it cannot be used, or the kernel is too old.
        PermissionError: this process may not mount.
        OSError: the system refuses; nothing is left.
    """
    context.check_writable()
    if not context.locks.writable:
        raise LayerStoreError(f"the store {context.root} cannot be written: a mount has to be noted there")
    notes = mounts_of(context)
    chain = node.record.chain_id
    with context.locks.exclusive(_key(context)), ExitStack() as undo:
        mount = TreeMount(chain, os.urandom(8).hex(), "", keep, None, *here())
        if directory is None:
            for known in notes.of(chain) if keep else ():
                if known.kept and known.has_own_point and _attached_at(known, mount_points()) == known.target:
                    return known
            below = notes.mount_point(mount).relative_to(context.root)
            mount = mount._replace(target=os.path.join(os.path.realpath(context.root), below))
        else:
            mount = mount._replace(target=_checked(context, notes, directory))
        context.locks.acquire(mount.lock_key, mount.name)
        undo.callback(context.locks.release, mount.lock_key, mount.name)
        undo.callback(lambda: _end(context, notes, mount))
        notes.write(mount)
        if directory is None:
            make_directory(notes.mount_point(mount), 0o700)
        tree = context.driver.get(node.record.cache_id, keep=True)
        try:
            with read_only_clone(tree) as clone, _opened(notes, mount, given=directory is not None) as point:
                mount = mount._replace(mount_id=mount_id(clone))
                notes.write(mount)
                attach(clone, point)
        except PermissionError as error:
            error.filename = mount.target
            error.add_note(
                "mounting an image needs the rights of root; an ordinary user mounts in 'layerstore unshare', or reads "
                "without a mount: 'layerstore files', 'cat', 'cp'"
            )
            raise
        undo.pop_all()
        if keep:
            context.locks.release(mount.lock_key, mount.name)
    context.note_use([chain])
    logger.info("mounted layer {} read-only at {}", chain, mount.target)
    return mount


def end_mount(context: StoreContext, mount: TreeMount, *, force: bool = False) -> None:
    """End a mount. One that has ended already, or was never made, only loses its note.

    Args:
        context: an open store.
        mount: the mount.
        force: if it may be in another mount namespace, remove its note all the same: the layer is not kept any more.

    Raises:
        LayerStoreError: it is in another mount namespace.
        OSError: it is in use (`EBUSY`), or cannot be unmounted.
    """
    context.check_writable()
    notes = mounts_of(context)
    with context.locks.exclusive(_key(context)):
        _end(context, notes, mount, force=force)
        context.locks.release(mount.lock_key, mount.name)
    logger.info("unmounted layer {} from {}", mount.chain_id, mount.target)


def end_stale_mounts(context: StoreContext, *, dry_run: bool = False) -> list[TreeMount]:
    """End mounts of processes that have ended, and remove the notes of mounts that others have ended.

    Returns:
        The mounts. One that is still in use is left, with a warning.
    """
    notes = mounts_of(context)
    ended = []
    with context.locks.exclusive(_key(context)):
        points = mount_points() if (known := notes.all()) else {}
        for mount in known:
            if context.locks.is_referenced(mount.lock_key):
                continue  # it is being made, or its process lives
            if mount.may_be_elsewhere():
                continue
            if mount.kept and _attached_at(mount, points) is not None:
                continue
            try:
                if not dry_run:
                    _end(context, notes, mount)
                ended.append(mount)
            except (LayerStoreError, OSError) as error:
                logger.warning("the stale mount at {} is left: {}", mount.target, error)
        if not dry_run:
            notes.tidy()
    return ended


def _end(context: StoreContext, notes: TreeMounts, mount: TreeMount, *, force: bool = False) -> None:
    if not force and mount.may_be_elsewhere():
        raise LayerStoreError(
            f"{mount.target}: the image is mounted in another mount namespace (a container, or 'layerstore unshare'); "
            "unmount it there. If that has ended, `layerstore umount --force` forgets the mount"
        )
    point = _attached_at(mount, mount_points())
    node = context.catalog.find_layer(mount.chain_id) if point is not None else None
    if point is not None and node is not None:
        # The driver's own mount is there as long as the note is.
        with context.driver.mounted(node.record.cache_id) as tree:
            if not detach(point, tree):
                logger.warning("{}: something else is mounted there, and is left", point)
    _forget(context, notes, mount)


def _attached_at(mount: TreeMount, points: Mapping[int, str]) -> str | None:
    """Return the path at which a mount is attached; `None` if it is not, or not in this namespace.

    When it has been unmounted by hand, another mount may have its ID, or something else be mounted there. When the
    store's root was renamed, the path of a mount below it is another one.
    """
    point = points.get(mount.mount_id) if mount.is_here and mount.mount_id is not None else None
    if point is None or point == mount.target:
        return point
    return point if mount.has_own_point and point.endswith(f"/{mount.chain_id.hex}/{mount.name}") else None


def _forget(context: StoreContext, notes: TreeMounts, mount: TreeMount) -> None:
    """Remove the note of a mount that does not exist, and end the driver's mount with the last note."""
    if not any(other.name != mount.name for other in notes.of(mount.chain_id)):
        with suppress(BadRecord, LayerDoesNotExist):  # otherwise nothing can be mounted
            node = context.catalog.find_layer(mount.chain_id)
            if node is not None:
                context.driver.end_kept_mount(node.record.cache_id)
    notes.remove(mount)


def _checked(context: StoreContext, notes: TreeMounts, directory: str) -> str:
    """Return the real path of a mount point that a user has given."""
    if not directory:
        raise LayerStoreError("the name of the mount point is empty; name an existing directory")
    target = os.path.realpath(directory, strict=True)
    if not os.path.isdir(target):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
    root = os.path.realpath(context.root)
    if target == root or target.startswith(f"{root}/") or root.startswith(f"{target.rstrip('/')}/"):
        raise LayerStoreError(
            f"{directory} cannot be a mount point: it is in the store's root {root}, or has that in it"
        )
    points = mount_points()
    for known in notes.all():
        if _attached_at(known, points) == target:
            raise LayerStoreError(f"{directory}: layer {known.chain_id} is mounted there already; unmount it first")
    return target


def _opened(notes: TreeMounts, mount: TreeMount, *, given: bool) -> Descriptor:
    return (
        Descriptor(open_fd, mount.target, _DIRECTORY | os.O_NOFOLLOW) if given else inside.open_directory(mount.target)
    )


def _key(context: StoreContext) -> str:
    return f"trees {context.driver.name}"
