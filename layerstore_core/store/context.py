"""The parts of an open store, which its operations and its handles use."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layerstore_core.base.atomic import make_directory
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.errors import LayerStoreError, ReadOnlyStore
from layerstore_core.locking.docker_lock import DockerLock
from layerstore_core.locking.root_locks import Counter, RootLocks
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.records.pins import Pins
from layerstore_core.records.quarantine import Quarantine
from layerstore_core.store.catalog import Catalog
from layerstore_core.store.lost import LostRecords

if TYPE_CHECKING:
    from layerstore_core.base.digests import ChainID
    from layerstore_core.base.limits import Limits
    from layerstore_core.config.model import StoreConfig
    from layerstore_core.records.kept import KeptDocuments
    from layerstore_core.records.last_used import LastUsed
    from layerstore_core.records.rw_images import RWImages
    from layerstore_core.records.snapshots.records import SnapshotRecords


@dataclass(eq=False, repr=False)
class StoreContext:
    """One open store: its settings, records, driver, locks, and the catalog of its layers.

    `open.make_context` makes it. Operations are functions that take it; handles keep it. Nothing in it is replaced
    while the store is open.

    Attributes:
        config: the settings in force.
        driver: the graph driver, behind the contract.
        locks: the locks of the root, which other processes see.
        docker: the lock that keeps a Docker daemon from starting; `None` where the store was opened for reading only.
        db: the records of layers and writable layers.
        image_db: the records of images.
        pins: the pins of this driver's layers.
        quarantine: damaged records, moved out of the way.
        catalog: the layers that are loaded, and the references to each.
        lost: directories of records that are missing.
        read_only: whether the store was opened for reading only.
        closed: whether the store was closed.
    """

    config: StoreConfig
    driver: BoundDriver
    locks: RootLocks
    docker: DockerLock | None
    db: LayerDB
    image_db: ImageDB
    pins: Pins
    quarantine: Quarantine
    catalog: Catalog
    lost: LostRecords
    read_only: bool
    closed: bool = False

    @property
    def root(self) -> Path:
        """The store's directory."""
        return self.config.root

    @property
    def kept(self) -> KeptDocuments:
        """What else belongs to images: manifests, indexes, annotations, referrers."""
        from layerstore_core.records.kept import KeptDocuments  # lazy: commands on layers do not need it

        return KeptDocuments(self.root, self.driver.name, durable=self.config.durability == "full")

    @property
    def rw_images(self) -> RWImages:
        """The images that writable layers were created from."""
        from layerstore_core.records.rw_images import RWImages  # lazy: readers of layers do not ask

        return RWImages(self.root, self.driver.name, durable=self.config.durability == "full")

    @property
    def snapshots(self) -> SnapshotRecords:
        """The snapshots that an engine has of the driver's layers, for reading."""
        from layerstore_core.records.snapshots.records import SnapshotRecords

        return SnapshotRecords(self.root, self.driver.name)

    @property
    def limits(self) -> Limits:
        """The limits of untrusted input."""
        from layerstore_core.base.limits import Limits  # lazy: only what reads tars asks

        return Limits.of(self.config)

    @property
    def max_depth(self) -> int:
        """The most layers that a chain may have: the setting, or what the driver can hold if that is less."""
        of_driver = self.driver.capabilities.max_depth
        return self.config.max_depth if of_driver is None else min(self.config.max_depth, of_driver)

    def close(self) -> None:
        """Close all handles and mounts, and release all locks; see `LayerStore.close`."""
        self.closed = True
        if self.locks.inherited:
            return
        with ExitStack() as parts:
            if self.docker is not None:
                parts.callback(self.docker.close)
            parts.callback(self.locks.close)
            parts.callback(self.catalog.close_all_handles)
            parts.callback(self.driver.close)

    def __del__(self) -> None:
        if not getattr(self, "closed", True) and not self.locks.inherited and not sys.is_finalizing():
            warnings.warn(f"the store {self.root} was never closed", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def check_open(self) -> None:
        """Refuse a store that is closed, or that belongs to the parent of a forked child.

        Raises:
            LayerStoreError: the store is closed, or another process has opened it.
        """
        if self.closed:
            raise LayerStoreError(f"the store {self.root} is closed")
        self.locks.check_own()

    def check_writable(self) -> None:
        """Refuse to change a store that was opened for reading only; other errors as `check_open`.

        Raises:
            ReadOnlyStore: the store was opened for reading only.
        """
        self.check_open()
        if self.read_only:
            raise ReadOnlyStore(f"the store {self.root} was opened for reading only")

    @property
    def last_used(self) -> LastUsed:
        """When layers were last used."""
        from layerstore_core.records.last_used import LastUsed  # lazy: reading commands use no layer in this sense

        return LastUsed(self.root, self.driver.name)

    def note_use(self, chains: Iterable[ChainID | None]) -> None:
        """Record that these layers, not their parents, are used now, as far as the root can be written."""
        if not self.read_only and self.locks.writable:
            self.last_used.note(chain for chain in chains if chain is not None)

    def scratch_directory(self) -> Path:
        """Return the directory for temporary files. They have no names, or are removed at the end of the operation."""
        directory = self.root / "layerstore" / "tmp"
        make_directory(directory, 0o700)
        return directory

    @contextmanager
    def flushing(self) -> Iterator[Callable[[], None]]:
        """Open the file systems of the root for a block, and yield a function that flushes what the block wrote.

        Call the function before a record is committed that refers to those writes. The file systems are opened
        first, so that syncfs(2) reports every write error since. Without durability the function does nothing.
        """
        if self.config.durability == "none":
            yield lambda: None
            return
        from layerstore_core.base.durability import FlushPoint

        with FlushPoint(self.root, self.driver.home) as point:
            yield point.flush

    @contextmanager
    def changing_images(self) -> Iterator[ImageDB]:
        """Lock the image records for changes: one thread of one process at a time. Not to be nested.

        Yields:
            The records. The caller keeps a handle to a new image's topmost layer until the image's record is written.

        Raises:
            ReadOnlyStore: as `check_writable`.
        """
        self.check_writable()
        with self.locks.exclusive(images_key(self.driver.name)):
            self.locks.advance(Counter.IMAGES)
            yield self.image_db

    @contextmanager
    def locking_records(self) -> Iterator[None]:
        """Keep all processes from committing, moving or deleting a record, for a moment only. Not to be nested."""
        self.check_open()
        with self.locks.exclusive("records"):
            yield

    @contextmanager
    def locking_all_records(self) -> Iterator[None]:
        """Keep all processes from changing the records of layers and images, and read all records again.

        Not to be nested.
        """
        self.check_open()
        with self.locks.exclusive(images_key(self.driver.name)), self.catalog.lock, self.locks.exclusive("records"):
            self.catalog.invalidate()
            yield

    @contextmanager
    def changing_records(self) -> Iterator[LayerDB]:
        """Lock the records for a repair: no process commits, moves or deletes one meanwhile. Not to be nested.

        Afterwards this store and other processes read the records again.

        Raises:
            ReadOnlyStore: as `check_writable`.
        """
        self.check_writable()
        with self.catalog.lock:
            try:
                with self.catalog.changing():
                    yield self.db
            finally:
                self.catalog.invalidate()

    def name_key(self, name: str) -> str:
        """Return the key of `RootLocks` for the name of a writable layer."""
        return f"name {self.driver.name} {name}"


def images_key(driver: str) -> str:
    """Return the key of `RootLocks` for the image records of a driver."""
    return f"images {driver}"
