"""Create and delete writable layers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from layerstore_core.base.digests import ImageID
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.errors import MountNameConflict, while_doing
from layerstore_core.log import logger
from layerstore_core.records.layer_record import MountRecord
from layerstore_core.store.context import StoreContext
from layerstore_core.store.nodes import LayerNode, MountNode

#: Called once with the path of the init layer, which is between a parent and a writable layer.
MountInit = Callable[[str], None]


def create(
    context: StoreContext,
    name: str,
    parent: LayerNode | None,
    *,
    mount_label: str,
    storage_opt: Mapping[str, str],
    init: MountInit | None,
    image: ImageID | None,
    flush: Callable[[], None],
) -> MountNode:
    """Create a writable layer. The caller has a handle to the parent, and has locked the name.

    Args:
        context: an open store.
        name: the name.
        parent: the parent layer, `None` for none.
        mount_label: an SELinux label.
        storage_opt: the driver's options for this layer.
        init: called with the path of an init layer between the parent and the writable layer; `None` for no init layer.
        image: the image that it is created from; `None` for none.
        flush: flushes to disk what the driver has created.

    Raises:
        MountNameConflict: the name is taken.
        OSError: the driver or the disk refuses; nothing of it is left.
    """
    catalog, db, driver = context.catalog, context.db, context.driver
    if catalog.find_mount(name) is not None or db.has_mount(name):
        raise MountNameConflict(f"a writable layer {name!r} exists already; choose another name or remove it")
    mount_id = os.urandom(32).hex()
    init_id = f"{mount_id}-init" if init is not None else None
    record = MountRecord(name, mount_id, init_id, parent.record.chain_id if parent else None)
    with db.begin_mount(record) as files:
        made: list[str] = []
        try:
            parent_id = parent.record.cache_id if parent else ""
            if init is not None and init_id is not None:
                made.append(init_id)  # a wrapper plugin may fail after the driver has created it
                with while_doing(f"creating the init layer of writable layer {name!r} in {driver.home}"):
                    driver.create_read_write(init_id, parent_id, mount_label, storage_opt)
                with driver.mounted(init_id, mount_label) as path:
                    init(path)
                parent_id = init_id
            made.append(mount_id)
            with while_doing(f"creating writable layer {name!r} in {driver.home}"):
                driver.create_read_write(mount_id, parent_id, mount_label, storage_opt)
            flush()
            if image is not None:
                # Before the record has its name: a process that is killed now leaves a note that gc removes, and no
                # writable layer of which the image is not known.
                context.rw_images.set(mount_id, image)
            with catalog.lock, catalog.changing():
                files.publish(db.mount_path(name))
                node = catalog.add_mount(record, parent)
            context.note_use([record.parent])
            logger.info("created writable layer {!r} as {}", name, mount_id)
            return node
        except BaseException:
            if not files.published:
                if image is not None:
                    context.rw_images.remove(mount_id)
                if not _remove_all(driver, made):
                    files.abandon()
            raise


def delete(context: StoreContext, node: MountNode) -> None:
    """Delete a writable layer to which no handle is left. The caller has locked its name.

    Raises:
        OSError: the driver could not delete it; the writable layer is still there.
    """
    catalog, db, driver = context.catalog, context.db, context.driver
    with catalog.lock, catalog.changing():
        files = db.begin_mount_deletion(node.record.name)
        catalog.remove_mount(node)
    with files:
        try:
            driver.remove(node.record.mount_id)
            if node.record.init_id:
                driver.remove(node.record.init_id)
        except BaseException as error:
            if not isinstance(error, Exception):
                files.abandon()  # it names what is left, for gc
                raise
            try:
                with catalog.lock, catalog.changing():
                    files.publish(db.mount_path(node.record.name))
                    catalog.restore_mount(node)
            except BaseException:
                files.abandon()  # it names what is left
                raise
            raise
        try:
            files.cancel()
        except OSError as error:
            logger.error("the record {} remains: it could not be removed: {}", files.path, error)
    context.rw_images.remove(node.record.mount_id)
    logger.info("deleted writable layer {!r}", node.record.name)


def _remove_all(driver: BoundDriver, layer_ids: list[str]) -> bool:
    """Remove the driver's layers, the last first, and return whether all are gone."""
    for layer_id in reversed(layer_ids):
        try:
            driver.remove(layer_id)
        except Exception as error:  # a driver may raise anything
            logger.error("the driver's layer {} remains: it could not be removed: {}", layer_id, error)
            return False
    return True
