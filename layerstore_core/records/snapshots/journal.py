"""The writer of a database of snapshots: changes of many threads at once become one transaction, with one flush."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from weakref import WeakSet

from layerstore_core.base import inside
from layerstore_core.records.snapshots.database import open_database, translating_errors

if TYPE_CHECKING:
    from sqlite3 import Connection

_T = TypeVar("_T")

#: The size of the log from the start, in bytes: what it grows to until SQLite writes it back, after 1,000 pages, and
#: room for one more transaction.
_LOG_SIZE: Final = 5 << 20
#: What has to be free for more snapshots, in bytes.
_ROOM: Final = 1 << 20


#: The journals that a forked child must not close.
_open_in_this_process: Final[WeakSet[SnapshotJournal]] = WeakSet()


def _leak_in_child() -> None:
    for journal in list(_open_in_this_process):
        journal.leak()


os.register_at_fork(after_in_child=_leak_in_child)


class SnapshotJournal:
    """The one writer of a database. All methods may be called from several threads.

    A change that must be durable is on disk when the call returns: SQLite flushes its log before a transaction ends. A
    change that need not be is seen by all processes at once, and survives the end of this one. After a power cut it
    may be missing, and so may all later ones that were not durable; never an earlier one alone.

    While one thread's transaction is written and flushed, those of others wait, and become one transaction together.

    The log has its place on disk from the start. So a disk that is full later does not keep snapshots from being
    removed, which is how it gets free again; `check_room` keeps others from using up that place.

    Args:
        path: the database, which exists.
        durable: whether changes can be made durable; `False` leaves that to the kernel.

    Raises:
        BadRecord: the database is damaged.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *, durable: bool) -> None:
        self._path: Final = path
        self._durable: Final = durable
        self._queue: list[_Change] = []
        self._queued: Final = Lock()  # guards the queue
        self._writing: Final = Lock()  # guards the connection for writing
        self._reading: Final = Lock()  # guards the connection for reading, which never waits for a flush
        self._writer: Final = open_database(path)
        try:
            self._reader: Final = open_database(path)
        except BaseException:
            self._writer.close()
            raise
        _open_in_this_process.add(self)
        self._flushes = False
        self._writer.execute("PRAGMA synchronous = NORMAL")
        _reserve(path.with_name(f"{path.name}-wal"))

    def close(self) -> None:
        """Close the database."""
        _open_in_this_process.discard(self)
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    def read(self, query: Callable[[Connection], _T]) -> _T:
        """Run a query, and return its result. It sees all changes whose calls have returned.

        Raises:
            BadRecord, OSError: as the constructor.
        """
        with self._reading, translating_errors(self._path):
            return query(self._reader)

    def write(self, change: Callable[[Connection], _T], *, durable: bool = True) -> _T:
        """Make one change, whole or not at all, and return its result.

        Args:
            change: changes rows. What it raises undoes its own changes alone. It may run in another thread.
            durable: whether it must be on disk when the call returns.

        Raises:
            BadRecord, OSError: as the constructor; or the disk is full.
        """
        mine = _Change(change, durable=durable and self._durable)
        with self._queued:
            self._queue.append(mine)
        with self._writing:
            if not mine.done:
                with self._queued:
                    batch, self._queue = self._queue, []
                self._run(batch)
        if mine.error is not None:
            raise mine.error
        return cast("_T", mine.result)

    def check_room(self) -> None:
        """Refuse what makes the database larger, if the disk is full.

        Raises:
            OSError: it is (ENOSPC).
        """
        status = os.statvfs(self._path.parent)
        if status.f_bfree * status.f_frsize < _ROOM:
            raise OSError(
                errno.ENOSPC,
                f"{os.strerror(errno.ENOSPC)}: the disk is full but for {_ROOM >> 20} MiB, which removals need",
                os.fspath(self._path.parent),
            )

    def leak(self) -> None:
        """Keep the connections for ever in a forked child.

        If they were closed there, SQLite would release locks of the parent, and might remove its log
        (sqlite.org/howtocorrupt.html, 2.6).
        """
        import ctypes

        for connection in (self._writer, self._reader):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))

    def _run(self, batch: list[_Change]) -> None:
        try:
            with translating_errors(self._path):
                self._set_flushes(any(change.durable for change in batch))
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    for change in batch:
                        self._run_one(change)
                    self._writer.execute("COMMIT")
                    if self._flushes:
                        self._confirm_flush()
                except BaseException:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                    raise
        except BaseException as error:
            for change in batch:
                change.error = change.error or error
            if not isinstance(error, Exception):
                raise
        finally:
            for change in batch:
                change.done = True

    def _run_one(self, change: _Change) -> None:
        self._writer.execute("SAVEPOINT one")
        try:
            with translating_errors(self._path):
                change.result = change.function(self._writer)
        except Exception as error:
            change.error = error
            self._writer.execute("ROLLBACK TO one")
        self._writer.execute("RELEASE one")

    def _confirm_flush(self) -> None:
        with inside.open_directory(self._path.parent) as directory:
            inside.confirm_flush(directory)

    def _set_flushes(self, wanted: bool) -> None:
        if wanted != self._flushes:
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._flushes = wanted


class _Change:
    """A change that waits to be made, or was made.

    Attributes:
        done: whether it was tried; then `error` says whether it was made, and `result` has its result.
    """

    def __init__(self, function: Callable[[Connection], Any], *, durable: bool) -> None:
        self.function = function
        self.durable = durable
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


def _reserve(log: Path) -> None:
    """Give the log its place on disk, if there is enough. SQLite ignores what follows its last whole transaction."""
    # A failure is none of this call's: the log then grows as it is needed.
    with suppress(OSError), open(log, "r+b", opener=inside.opener) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            os.posix_fallocate(file.fileno(), 0, max(size, _LOG_SIZE))
        except OSError:
            os.ftruncate(file.fileno(), size)  # what was found for a part of it
            raise
