"""Write a record: a directory under `tmp/`, which becomes the record by one rename."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Self

from layerstore_core.base import inside
from layerstore_core.base.atomic import FILE_MODE, exchange_names, make_directory, write_file
from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.digests import ChainID
from layerstore_core.base.replace_file import naming
from layerstore_core.errors import while_doing
from layerstore_core.records.layer_record import CACHE_ID, LayerRecord, driver_ids
from layerstore_core.tree.remove import remove_tree

#: The directories that records are in: of layers, and of writable layers.
OF_RECORDS: Final = ("sha256", "mounts")
TAR_SPLIT: Final = "tar-split.json.gz"
_PREFIX: Final = "write-set-"


class WriteSet:
    """Files that get their name together, or not at all. A `with` block cancels what it has not published.

    The directory is locked for as long as the process lives, so that garbage collection in another process
    can tell work under way from what a killed process has left.

    A write set is in one of these states:

    - **open**, from the start: the directory is under `tmp/` and locked. The caller writes files into it.
    - **open with a record** (`has_record` is true), after `move_in`: the same, but the files are an existing record.
    - **published** (`published` is true), after `publish`: the directory has its name, and is unlocked.
    - **exchanged** (`published` is true), after `exchange`: the directory has its name. The former record is under
      `tmp/` in its place, and locked. `cancel` and `abandon` then concern that record.
    - **closed**: after `cancel`, which removes the directory under `tmp/`; or after `abandon`, which unlocks it for
      gc to remove it.

    `move_in` and `exchange` start from an open write set, `publish` from one that is open, with a record or without.
    When one of them raises, the directory has been renamed back, and the write set is open as before, or closed after
    `move_in`. The attributes say so if the step was complete nevertheless: a signal handler may raise after it. On a
    published or closed write set `cancel` and `abandon` do nothing.

    Args:
        db: the layerdb's directory.
        durable: whether what is published must be on disk when the call returns.

    Attributes:
        path: the directory under `tmp/`.
        published: whether the files have their name, even if the call that gave it has raised.
        has_record: whether the files are a record that `move_in` has moved here.
    """

    published = False
    has_record = False

    def __init__(self, db: Path, *, durable: bool) -> None:
        self._db = db
        self._durable = durable
        with self.naming():
            make_directory(db, 0o700, durable=durable)
            scratch = db / "tmp"
            make_directory(scratch, 0o755)
            while True:
                self.path = scratch / f"{_PREFIX}{os.urandom(8).hex()}"
                try:
                    inside.mkdir(self.path, 0o700)
                except FileNotFoundError:  # gc in another process has removed it as stale
                    continue
                # A process that only looks whether it is stale has it locked for a moment; gc has removed it then.
                lock = try_lock(self.path, wait=True)
                if lock is not None:
                    self._lock: Descriptor | None = lock
                    return

    def naming(self, target: Path | None = None) -> AbstractContextManager[None]:
        """Name in each `OSError` of a `with` block the record, or the layerdb, and not a temporary file."""
        return naming(str(target or self._db))

    def publish(self, target: Path) -> None:
        """Give the directory its name. Its files must be on disk by now.

        The caller ensures that no process relies on the name before this returns. When it raises, the write set
        is still open, and the name is not given.

        Raises:
            FileExistsError: the name is taken.
            OSError: it cannot be renamed, or it is not certain that the new name would last.
        """
        directories = [self._db / name for name in OF_RECORDS]
        with self.naming(target):
            # The first record creates all directories, so that one that is missing later is known to be lost.
            if any(map(inside.exists, directories)):
                directories = [target.parent]
            for directory in directories:
                make_directory(directory, 0o755, durable=self._durable)
            try:
                inside.rename(self.path, target)
                if self._durable:
                    inside.flush(target.parent)
            except BaseException as error:
                if not inside.exists(self.path):
                    inside.rename(target, self.path)
                elif isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    raise FileExistsError(errno.EEXIST, "there is a record already", str(target)) from None
                raise
        self.published = True  # without a call in between, after which a signal handler could raise
        self._unlock()

    def flush(self) -> None:
        """Flush the files to disk, one by one: for a few small ones."""
        if self._durable:
            with self.naming():
                for name in inside.names(self.path):
                    inside.flush(self.path / name)
                inside.flush(self.path)
                inside.flush(self.path.parent)

    def chmod(self, mode: int) -> None:
        """Change the directory's mode."""
        assert self._lock is not None, "it is open until it is published or cancelled"
        os.fchmod(self._lock.number, mode)

    def abandon(self) -> None:
        """Leave the files to gc, because the driver could not remove what they name."""
        self._unlock()

    def move_in(self, source: Path) -> None:
        """Move an existing record here, in the place of this empty write set; `cancel` then removes it.

        So a record disappears by one rename, and is never seen in part; `publish` would restore it.

        Raises:
            FileNotFoundError: there is no such record.
            OSError: it cannot be moved; it is where it was.
        """
        # The record's own directory is locked before it is moved: unlocked under `tmp` it would look stale.
        lock = try_lock(source, wait=True)
        if lock is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        try:
            with self.naming(source):
                inside.rename(source, self.path)
                if self._durable:
                    inside.flush(source.parent)
        except BaseException:
            with self.naming(source):
                if not inside.exists(source):
                    # In any case `cancel` must not remove the record.
                    self._unlock()
                    inside.rename(self.path, source)
                lock.close()
            raise
        self.has_record, self._lock = True, lock  # which closes the former one

    def exchange(self, target: Path) -> None:
        """Exchange the files with an existing record, at once. The files must be on disk by now.

        `cancel` then removes the former record, and `abandon` leaves it; until then gc leaves it alone.

        Raises:
            FileNotFoundError: there is no such record.
            OSError: they cannot be exchanged, for example because the file system does not support it.
        """
        lock = try_lock(target, wait=True)
        if lock is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target))
        assert self._lock is not None
        with self.naming(target):
            try:
                exchange_names(self.path, target)
            except BaseException:
                if not os.path.samestat(os.stat(self.path), os.fstat(self._lock.number)):
                    exchange_names(self.path, target)
                lock.close()
                raise
            self.published, self._lock = True, lock  # which closes the former one
            if self._durable:
                inside.flush(target.parent)
                inside.flush(self.path.parent)

    def cancel(self) -> None:
        """Remove the files. A second call, or one after `publish`, does nothing.

        Raises:
            OSError: some are left, for gc.
        """
        if self._lock is not None:
            try:
                with self.naming():
                    remove_tree(os.fsencode(self.path), called=str(self._db))
            finally:
                self._unlock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None  # set to `None` before it is closed: see `base.descriptors`
        if lock is not None:
            os.close(lock.detach())


class Transaction(WriteSet):
    """A layer's record that is being written.

    Args:
        db: the layerdb's directory.
        cache_id: the driver's ID for the layer. It is on disk before this object exists: should the process die,
            gc finds what the driver has created by then.
        durable: as for `WriteSet`.
    """

    def __init__(self, db: Path, cache_id: str, *, durable: bool) -> None:
        super().__init__(db, durable=durable)
        self.cache_id = cache_id
        try:
            with self.naming():
                write_file(self.path / CACHE_ID, cache_id.encode())
            self.flush()
        except BaseException:
            self.cancel()
            raise

    def write(self, record: LayerRecord) -> None:
        """Write the record's other fields."""
        with self.naming():
            record.write(self.path)

    def open_tar_split(self) -> BinaryIO:
        """Open a file for the layer's tar-split lines; the caller compresses."""
        with self.naming():
            file = open(self.path / TAR_SPLIT, "xb", opener=inside.opener)  # noqa: SIM115
            try:
                os.fchmod(file.fileno(), FILE_MODE)
            except BaseException:
                file.close()
                raise
            return file

    def commit(self, chain: ChainID) -> None:
        """Make the files the record of `chain`. Their content must be on disk by now: see `base.durability`.

        Raises:
            FileExistsError: there is a record already; the transaction is still open.
        """
        with while_doing(f"committing layer {chain}"):
            self.publish(self._db / "sha256" / chain.hex)


class StaleTransaction(NamedTuple):
    """The unfinished work of a process that has ended.

    Attributes:
        path: the directory, under `tmp/`.
        driver_ids: what the driver may have of it, in the order in which it is to be removed.
        is_empty: whether there is no file in it: then its process may be alive, and about to lock it.
    """

    path: Path
    driver_ids: tuple[str, ...]
    is_empty: bool = False


def stale_transactions(db: Path) -> list[StaleTransaction]:
    """Return the transactions whose process has ended, sorted."""
    stale = []
    for name in inside.names(db / "tmp"):
        path = db / "tmp" / name
        lock = try_lock(path)
        if lock is not None:
            with lock:
                stale.append(StaleTransaction(path, driver_ids(path), not os.listdir(lock.number)))
    return stale


def live_driver_ids(db: Path) -> list[str]:
    """Return what the driver may have of the work of processes that are alive, of this one, too."""
    found: list[str] = []
    for name in inside.names(db / "tmp"):
        path = db / "tmp" / name
        lock = try_lock(path)
        if lock is None:
            found += driver_ids(path)
        else:
            lock.close()
    return found


@contextmanager
def removing_stale(stale: StaleTransaction) -> Iterator[bool]:
    """Lock a stale transaction for a block that removes the driver's part of it; then remove the directory.

    Yields:
        Whether it is still there, and this process is the one that removes it.
    """
    lock = try_lock(stale.path)
    if lock is None:
        yield False
        return
    with lock:
        yield True
        remove_tree(os.fsencode(stale.path))


def try_lock(directory: Path, *, wait: bool = False) -> Descriptor | None:
    """Lock a directory, for as long as the descriptor is open or the process lives.

    Args:
        directory: which.
        wait: wait until no other process has the lock: one that only looks at it has the lock for a moment.

    Returns:
        The descriptor; `None` where another process has the lock, or the directory is gone.
    """
    try:
        lock = inside.open_directory(directory)
        lock.close_in_children()
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock.number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        # Since it was opened it may have been removed, or have got another name.
        if os.path.samestat(os.fstat(lock.number), inside.status(directory)):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        lock.close()
        raise
    lock.close()
    return None
