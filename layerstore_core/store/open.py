"""Open a store: settings, locks, driver, records, and the recovery from processes that have ended in the middle."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from layerstore_core.base import inside
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.driver.open import check_driver, check_options, open_driver
from layerstore_core.driver.prior import note_driver
from layerstore_core.driver.standalone import refuse_lent
from layerstore_core.locking.docker_lock import DockerLock
from layerstore_core.locking.root_locks import Counter, RootLocks
from layerstore_core.log import logger, wants_details
from layerstore_core.records.buildkit import BuildKitCache
from layerstore_core.records.image_references import UNKNOWN_VERSION
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.records.pins import Pins
from layerstore_core.records.quarantine import Quarantine, QuarantinedReferences
from layerstore_core.store.catalog import Catalog
from layerstore_core.store.context import StoreContext, images_key
from layerstore_core.store.delete import recover
from layerstore_core.store.locate import has_store, require_proc, require_store
from layerstore_core.store.lost import LostLayers, LostRecords, LostSnapshots
from layerstore_core.store.mounts.records import TreeMounts
from layerstore_core.store.nodes import Problem
from layerstore_core.store.parentage import KnownParents

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig


def open_store(config: StoreConfig, *, create: bool, read_only: bool) -> StoreContext:
    """Open the store under a root, and create it where there is none; errors as `LayerStore.open`.

    Args:
        config: the settings.
        create: whether to create a store where there is none.
        read_only: whether nothing may be changed.
    """
    inside.guard(config.root)
    if not read_only:
        require_proc()
    if not has_store(config.root):
        if read_only or not create:
            check_options(config)
            require_store(config.root, config.sources["root"])
        check_driver(config)
    with ExitStack() as opened:
        docker = None
        if not read_only:
            docker = DockerLock(config.root)
            opened.callback(docker.close)
        locks = RootLocks(config.root / "layerstore" / "locks", read_only=read_only)
        opened.callback(locks.close)
        driver = open_driver(config, locks)
        opened.callback(driver.close)
        if locks.writable:
            refuse_lent(config.root, driver.name, locks)
        context = make_context(config, driver, locks, read_only=read_only, docker=docker)
        opened.callback(setattr, context, "closed", True)
        if create and locks.writable:
            note_driver(config.root, driver.name, durable=config.durability == "full")
        opened.pop_all()
    logger.info("opened the store {}: driver {}", config.root, driver.name)
    if wants_details():
        for name, source in config.sources.items():
            if source != "default":
                logger.debug("setting {} = {} (from: {})", name, getattr(config, name), source)
    return context


def make_context(
    config: StoreConfig,
    driver: BoundDriver,
    locks: RootLocks,
    *,
    read_only: bool = False,
    docker: DockerLock | None = None,
) -> StoreContext:
    """Put the parts of a store together, and finish or undo the unfinished work of processes that have ended.

    Args:
        config: the settings.
        driver: an open driver.
        locks: the locks of the root.
        read_only: whether nothing may be changed.
        docker: the lock that keeps a Docker daemon from starting.
    """
    root, durable = config.root, config.durability == "full"
    inside.guard(root)
    records = root / "image" / driver.name
    db = LayerDB(records / "layerdb", durability=config.durability)
    pins = Pins(root, driver.name, durable=durable)
    image_db = ImageDB(records, durable=durable, version=lambda: _version_of_images(locks, driver.name))
    quarantined = QuarantinedReferences(root, db, driver.name)
    catalog = Catalog(db, driver.name, (pins, image_db, BuildKitCache(root), quarantined), locks, _warn)

    def strays() -> list[str]:
        from layerstore_core.store.strays import Strays  # lazy: asked only where a directory of records is missing

        return Strays(context, lock=False).ids  # the caller may have locked the records

    lost = LostRecords(db, driver.name, strays)
    context = StoreContext(
        config, driver, locks, docker, db, image_db, pins, Quarantine(root, driver.name), catalog, lost, read_only
    )
    catalog.add_reference_source(TreeMounts(root, driver.name))
    catalog.add_reference_source(KnownParents(driver, catalog.mounts, catalog.find_layer))
    catalog.add_reference_source(lost)
    catalog.add_reference_source(context.snapshots)
    catalog.add_reference_source(LostSnapshots(context.snapshots, driver.layer_ids))
    catalog.add_reference_source(LostLayers(db, pins, quarantined, catalog))
    try:
        if locks.writable:
            recover(context)
    except BaseException:
        context.closed = True  # the caller closes the driver and the locks that it has passed in
        raise
    return context


def _version_of_images(locks: RootLocks, driver: str) -> int:
    """Return the version for `ReferenceReader`; unknown while another process changes the image records."""
    version = locks.generation(Counter.IMAGES)
    return UNKNOWN_VERSION if locks.is_exclusive_elsewhere(images_key(driver)) else version


def _warn(problem: Problem) -> None:
    logger.warning("{}: not loaded: {}", problem.path, problem.reason)
