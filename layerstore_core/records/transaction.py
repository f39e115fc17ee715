"""A record on its way in: a directory under `tmp/`, which becomes the record by one rename."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from layerstore_core.base import inside
from layerstore_core.base.atomic import FILE_MODE, exchange_names, make_directory, write_file
from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import while_doing
from layerstore_core.records.layer_record import CACHE_ID, LayerRecord, driver_ids
from layerstore_core.tree.remove import remove_tree

#: The directories that records stand in: of layers, and of writable layers.
OF_RECORDS: Final = ("sha256", "mounts")
TAR_SPLIT: Final = "tar-split.json.gz"
_PREFIX: Final = "write-set-"


class WriteSet:
    """Files that get their name together, or not at all. A `with` block cancels what it has not published.

    The directory is locked for as long as the process lives, so that garbage collection in another process
    tells work under way from what a killed process left.

    Args:
        db: the layerdb's directory.
        durable: whether what is published is to be on disk when the call returns.

    Attributes:
        published: whether the files have their name, whatever exception came out of the call that gave it.
        taken: whether they are a record that `take` has taken.
    """

    published = False
    taken = False

    def __init__(self, db: Path, *, durable: bool) -> None:
        import secrets

        self._db = db
        self._durable = durable
        make_directory(db, 0o700, durable=durable)
        scratch = db / "tmp"
        make_directory(scratch, 0o755)
        while True:
            #: Where the files are until then.
            self.path = scratch / f"{_PREFIX}{secrets.token_hex(8)}"
            try:
                inside.mkdir(self.path, 0o700)
            except FileNotFoundError:  # a collector has taken it for a dead one
                continue
            # Whoever only looks whether it is a dead one's has it locked for a moment; a collector has removed it then.
            lock = try_lock(self.path, wait=True)
            if lock is not None:
                self._lock: Descriptor | None = lock
                return

    def publish(self, target: Path) -> None:
        """Give the directory its name. Its files are to be on disk by now.

        The caller sees to it that nobody relies on the name before this returns. When it raises, the write set
        is still open, and the name is not given.

        Raises:
            FileExistsError: the name is taken.
            OSError: it cannot be renamed, or it is not certain that the new name would last.
        """
        directories = [self._db / name for name in OF_RECORDS]
        # All with the first record, so that one which is missing later on is known to be lost.
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
        self.published = True  # there is no call before this, after which a signal handler could raise
        self._unlock()

    def flush(self) -> None:
        """Get the files to disk, one by one: for a few small ones."""
        if self._durable:
            for name in inside.names(self.path):
                inside.flush(self.path / name)
            inside.flush(self.path)
            inside.flush(self.path.parent)

    def chmod(self, mode: int) -> None:
        """Change the directory's mode."""
        assert self._lock is not None, "it is open until it is published or cancelled"
        os.fchmod(self._lock.number, mode)

    def abandon(self) -> None:
        """Leave the files to a collector, because the driver could not remove what they name."""
        self._unlock()

    def take(self, source: Path) -> None:
        """Put an existing record in the place of this empty write set, from where `cancel` removes it.

        So a record goes by one rename, and is never seen in part; `publish` would bring it back.

        Raises:
            FileNotFoundError: there is no such record.
            OSError: it cannot be moved; it is where it was.
        """
        # The record's own directory is locked before it is moved: unlocked under `tmp` it would look dead.
        lock = try_lock(source, wait=True)
        if lock is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        try:
            inside.rename(source, self.path)
            if self._durable:
                inside.flush(source.parent)
        except BaseException:
            if not inside.exists(source):
                # Whatever becomes of this, `cancel` must not remove the record.
                self._unlock()
                inside.rename(self.path, source)
            lock.close()
            raise
        self.taken, self._lock = True, lock  # which closes the former one

    def exchange(self, target: Path) -> None:
        """Put the files in the place of a record, and that record in theirs, at once. Its files are to be on disk by now.

        The former record is what `cancel` removes, and `abandon` leaves; until then no collector looks at it.

        Raises:
            FileNotFoundError: there is no such record.
            OSError: they cannot be exchanged, for example because the file system does not know how to.
        """
        lock = try_lock(target, wait=True)
        if lock is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target))
        assert self._lock is not None
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
            OSError: some are left, for a collector.
        """
        if self._lock is not None:
            try:
                remove_tree(os.fsencode(self.path))
            finally:
                self._unlock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None  # forgotten before it is closed: see `descriptors`
        if lock is not None:
            os.close(lock.detach())


class Transaction(WriteSet):
    """A layer's record on its way in.

    Args:
        db: the layerdb's directory.
        cache_id: the driver's ID for the layer. It is on disk before this object is: should the process die,
            what the driver has made by then can be named.
        durable: as for `WriteSet`.
    """

    def __init__(self, db: Path, cache_id: str, *, durable: bool) -> None:
        super().__init__(db, durable=durable)
        self.cache_id = cache_id
        try:
            write_file(self.path / CACHE_ID, cache_id.encode())
            self.flush()
        except BaseException:
            self.cancel()
            raise

    def write(self, record: LayerRecord) -> None:
        """Write the record's other fields."""
        record.write(self.path)

    def open_tar_split(self) -> BinaryIO:
        """A file for the layer's tar-split lines; the caller compresses."""
        file = open(self.path / TAR_SPLIT, "xb", opener=inside.opener)  # noqa: SIM115
        try:
            os.fchmod(file.fileno(), FILE_MODE)
        except BaseException:
            file.close()
            raise
        return file

    def commit(self, chain: ChainID) -> None:
        """Make the files the record of `chain`. Their content is to be on disk by now: see `durability`.

        Raises:
            FileExistsError: there is a record already; the transaction is still open.
        """
        with while_doing(f"committing layer {chain}"):
            self.publish(self._db / "sha256" / chain.hex)


@dataclass(frozen=True, slots=True)
class StaleTransaction:
    """What a process that is gone has left of its work.

    Attributes:
        path: the directory, under `tmp/`.
        driver_ids: what the driver may have of it, in the order in which it is to be removed.
        is_empty: whether nothing is in it: then its process may be alive, and about to lock it.
    """

    path: Path
    driver_ids: tuple[str, ...]
    is_empty: bool = False


def stale_transactions(db: Path) -> list[StaleTransaction]:
    """The transactions whose process is gone, sorted."""
    dead = []
    for name in inside.names(db / "tmp"):
        path = db / "tmp" / name
        lock = try_lock(path)
        if lock is not None:
            with lock:
                dead.append(StaleTransaction(path, driver_ids(path), not os.listdir(lock.number)))
    return dead


@contextmanager
def removing_stale(dead: StaleTransaction) -> Iterator[bool]:
    """A block for removing what the driver has of a dead transaction; at its end the directory goes.

    Yields:
        Whether it is still there, and this process is the one that removes it.
    """
    lock = try_lock(dead.path)
    if lock is None:
        yield False
        return
    with lock:
        yield True
        remove_tree(os.fsencode(dead.path))


def try_lock(directory: Path, *, wait: bool = False) -> Descriptor | None:
    """Lock a directory, for as long as the descriptor is open or the process lives.

    Args:
        directory: which.
        wait: wait until nobody else has the lock: whoever only looks has it for a moment.

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
