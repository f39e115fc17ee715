"""A record on its way in: a directory under `tmp/`, which becomes the record by one rename."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Self

from layerstore_core.digests import ChainID
from layerstore_core.errors import while_doing
from layerstore_core.metadata.atomic import FILE_MODE, flush, make_directory
from layerstore_core.metadata.records import LayerRecord

TAR_SPLIT: Final = "tar-split.json.gz"
_PREFIX: Final = "write-set-"


class WriteSet:
    """Files that get their name together, or not at all. A `with` block cancels what it has not published.

    The directory is locked for as long as the process lives, so that garbage collection in another process
    tells work under way from what a killed process left.

    Args:
        db: the layerdb's directory.
        durable: whether what is published is to be on disk when the call returns.
    """

    def __init__(self, db: Path, *, durable: bool) -> None:
        self._db = db
        self._durable = durable
        make_directory(db, 0o700)
        scratch = db / "tmp"
        scratch.mkdir(0o755, exist_ok=True)
        while True:
            #: Where the files are until then.
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=scratch))
            lock = try_lock(self.path)
            # Between the two calls a collector may have taken the unlocked directory for a dead one.
            if lock is not None and self.path.is_dir():
                self._lock: int | None = lock
                return
            if lock is not None:
                os.close(lock)

    def publish(self, target: Path) -> None:
        """Give the directory its name. Its files are to be on disk by now.

        Raises:
            FileExistsError: the name is taken; the write set is still open.
        """
        target.parent.mkdir(0o755, exist_ok=True)
        try:
            os.rename(self.path, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise FileExistsError(errno.EEXIST, "there is a record already", str(target)) from None
            raise
        self._unlock()
        if self._durable:
            flush(target.parent)

    def flush(self) -> None:
        """Get the files to disk, one by one: for a few small ones."""
        if self._durable:
            for file in self.path.iterdir():
                flush(file)
            flush(self.path)

    def take(self, source: Path) -> None:
        """Put an existing record in the place of this empty write set, from where `cancel` removes it.

        So a record goes by one rename, and is never seen in part.
        """
        os.rename(source, self.path)
        if self._durable:
            flush(source.parent)

    def cancel(self) -> None:
        """Remove the files. A second call, or one after `publish`, does nothing."""
        if self._lock is not None:
            with suppress(FileNotFoundError):  # a collector may be at it too
                shutil.rmtree(self.path)
            self._unlock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Transaction(WriteSet):
    """A layer's record on its way in."""

    def write(self, record: LayerRecord) -> None:
        """Write the record's fields."""
        record.write(self.path)

    def open_tar_split(self) -> BinaryIO:
        """A file for the layer's tar-split lines; the caller compresses."""
        fd = os.open(self.path / TAR_SPLIT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        os.fchmod(fd, FILE_MODE)
        return os.fdopen(fd, "wb")

    def commit(self, chain: ChainID) -> None:
        """Make the files the record of `chain`. Their content is to be on disk by now: see `durability`.

        Raises:
            FileExistsError: there is a record already; the transaction is still open.
        """
        with while_doing(f"committing layer {chain}"):
            self.publish(self._db / "sha256" / chain.hex)


def dead_transactions(db: Path) -> list[Path]:
    """The directories of transactions whose process is gone, sorted."""
    try:
        names = sorted(os.listdir(db / "tmp"))
    except FileNotFoundError:
        return []
    dead = []
    for name in names:
        lock = try_lock(db / "tmp" / name)
        if lock is not None:
            dead.append(db / "tmp" / name)
            os.close(lock)
    return dead


def remove_dead_transaction(path: Path) -> bool:
    """Remove what a killed process left.

    Returns:
        Whether it was dead, and is gone.
    """
    lock = try_lock(path)
    if lock is None:
        return False
    try:
        shutil.rmtree(path)
    finally:
        os.close(lock)
    return True


def try_lock(directory: Path) -> int | None:
    """Lock a directory, for as long as the descriptor is open or the process lives.

    Returns:
        The descriptor; `None` where another process has the lock, or the directory is gone.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd
