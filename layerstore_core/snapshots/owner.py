"""The one owner of a driver's snapshots: its lock, its journal, and what its threads share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import PARTIAL, make_directory
from layerstore_core.base.durability import FlushPoint
from layerstore_core.errors import ReadOnlyStore, SnapshotDoesNotExist, SnapshotsInUse
from layerstore_core.records.snapshots import rows
from layerstore_core.records.snapshots.database import create_database
from layerstore_core.records.snapshots.journal import SnapshotJournal
from layerstore_core.records.transaction import try_lock
from layerstore_core.snapshots.flushes import JoinedFlushes
from layerstore_core.snapshots.keys import KeyLocks

if TYPE_CHECKING:
    from sqlite3 import Connection

    from layerstore_core.base.descriptors import Descriptor
    from layerstore_core.records.snapshots.rows import SnapshotRow
    from layerstore_core.store.context import StoreContext


#: How often, and with which pause in seconds, the lock of the snapshots is tried before it counts as an owner's.
_TRIES: Final = 10
_PAUSE: Final = 0.02


class Owner:
    """The snapshots of one root and driver, which no other process changes as long as this object is open.

    Args:
        store: an open store.
        lock: the lock of the snapshots, which is closed with this object.

    Raises:
        BadRecord: the database is damaged, or is missing though the driver has layers of snapshots.

    Attributes:
        store: the store.
        journal: the writer of the database.
        keys: the locks of keys; an operation has that of its key from beginning to end.
        removals: the locks of rows whose layer is being removed.
        flushes: the flushes of what the driver has written.
    """

    def __init__(self, store: StoreContext, lock: Descriptor) -> None:
        self.store: Final = store
        self.keys: Final = KeyLocks()
        self.removals: Final = KeyLocks()
        durable = store.config.durability == "full"
        with ExitStack() as opened:
            opened.enter_context(lock)
            _make_database(store, durable=durable)
            self.journal: Final = SnapshotJournal(store.snapshots.path, durable=durable)
            opened.callback(self.journal.close)
            # Kept open, so that no error of a write is missed: see `FlushPoint`.
            point = opened.enter_context(FlushPoint(store.root, store.driver.home)) if durable else None
            self.flushes: Final = JoinedFlushes(point.flush if point is not None else None)
            self._opened: Final = opened.pop_all()

    def close(self) -> None:
        """Close the database, and let others have the snapshots. A second call does nothing."""
        if not self.store.locks.inherited:
            self._opened.close()

    def find(self, key: str) -> SnapshotRow:
        """Return a snapshot that is ready.

        Raises:
            SnapshotDoesNotExist: there is none of this key.
        """
        return self.journal.read(lambda database: existing(database, key))


def existing(database: Connection, key: str, what: str = "snapshot") -> SnapshotRow:
    """Return a snapshot that is ready.

    Raises:
        SnapshotDoesNotExist: there is none of this key.
    """
    row = rows.find(database, key)
    if row is None or row.state != rows.READY:
        raise SnapshotDoesNotExist(f"there is no {what} {key!r}")
    return row


def now() -> int:
    """Return the time as it is recorded: nanoseconds since the epoch."""
    return time.time_ns()


def own(store: StoreContext) -> Owner:
    """Become the owner of the snapshots.

    Raises:
        SnapshotsInUse: there is another one.
        ReadOnlyStore: the store cannot be written.
        BadRecord: as `Owner`.
    """
    _check_writable(store)
    make_directory(store.snapshots.path.parent, 0o700, durable=store.config.durability == "full")
    return Owner(store, _locked(store))


@contextmanager
def locking(store: StoreContext) -> Iterator[None]:
    """Keep others from becoming the owner for a block, without looking at the database; errors as `own`."""
    _check_writable(store)
    with _locked(store):
        yield


def _locked(store: StoreContext) -> Descriptor:
    # `owning_for_a_moment` keeps this lock all the time: it is waited for, and a server is not.
    with store.locks.exclusive(_gate(store)):
        lock = None
        for _ in range(_TRIES):  # `is_unowned` has it for a moment, too
            if (lock := try_lock(store.snapshots.path.parent)) is not None:
                break
            time.sleep(_PAUSE)
    if lock is None:
        raise SnapshotsInUse(
            f"the snapshots of {store.root} with the driver {store.driver.name} are in use by another process, or by "
            "another object of this one: only one at a time can change them; stop the other server, or use its socket"
        )
    return lock


@contextmanager
def owning_for_a_moment(store: StoreContext) -> Iterator[Owner | None]:
    """Become the owner for a block, if there are snapshots without one; else yield `None`. Errors as `own`."""
    if not store.snapshots.exist():
        yield None
        return
    _check_writable(store)
    with store.locks.exclusive(_gate(store)):
        lock = try_lock(store.snapshots.path.parent)
        if lock is None:
            yield None
            return
        owner = Owner(store, lock)
        try:
            yield owner
        finally:
            owner.close()


def is_unowned(store: StoreContext) -> bool:
    """Return whether there are snapshots, and no process is their owner now. Waits for nothing."""
    if not store.snapshots.exist():
        return False
    lock = try_lock(store.snapshots.path.parent)
    if lock is not None:
        lock.close()
    return lock is not None


def _check_writable(store: StoreContext) -> None:
    store.check_writable()
    if not store.locks.writable:
        raise ReadOnlyStore(f"the store {store.root} cannot be written, so its snapshots cannot be changed")


def _gate(store: StoreContext) -> str:
    """Return the key of `RootLocks` for becoming the owner."""
    return f"snapshots {store.driver.name}"


def _make_database(store: StoreContext, *, durable: bool) -> None:
    path = store.snapshots.path
    for name in inside.names(path.parent):
        if name.startswith(PARTIAL):  # of an owner that was killed while it made the database
            with suppress(FileNotFoundError):
                inside.unlink(path.parent / name)
    if not store.snapshots.exist():
        if lost := store.snapshots.lost(store.driver.layer_ids() or ()):
            raise lost
        create_database(path, durable=durable)
