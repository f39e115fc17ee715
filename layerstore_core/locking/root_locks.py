"""Locks that processes share, kernel-held: what a dead process held is free at once.

All are byte-range locks of the *open file description* kind (fcntl(2), "Open file description locks") on
one file, `<root>/layerstore/locks`. A key's byte is derived from its hash, so that any number of keys needs
one descriptor. Two keys on one byte, one chance in 2^62 a pair, would only wait for each other.

Three ways to lock a key:

- `exclusive(key)`: one thread of one process at a time; for the length of a `with` block.
- `hold(key)` and `drop(key)`: any number of holders, counted; a hold lasts until it is dropped or the process ends.
- `sole(key)`: a `with` block in which nobody else gets a hold, if nobody else has one now.

The order in which the store takes them, so that no two processes wait for each other: the images, the name
of a writable layer, then a layer of the driver, then the records. Holds of layers are taken in between at any time: nobody
keeps `sole` while waiting for anything but the records.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from threading import Lock, RLock
from typing import Final
from weakref import WeakValueDictionary

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.base.descriptors import Descriptor
from layerstore_core.errors import LayerStoreError

#: `struct flock` of 64-bit Linux: type, whence, start, length, pid.
_FLOCK: Final = struct.Struct("hhqqi4x")
#: Bytes below are set aside; the counters are the file's content.
_FIRST_BYTE: Final = 1 << 12
_COUNTER: Final = struct.Struct("<q")
_NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


class Counter(IntEnum):
    """What is counted in the lock file, each in a place of its own."""

    RECORDS = 0
    IMAGES = 1


class LocksUnavailable(LayerStoreError):
    """The file system of the root has no working locks, so that processes could not share it safely."""


class RootLocks:
    """The locks of one root, for one open store; every store has its own, also within one process.

    Args:
        path: the lock file; it and its directory are made where they are missing.
        read_only: take no locks, and write nothing.

    Raises:
        LocksUnavailable: the file system does not lock.
        BadRecord: something that is no such file stands there, a link, say: nothing is written to it.
        OSError: the file cannot be made.

    Attributes:
        writable: whether the root can be written, and is to be. Where not, holds are not taken: nobody could delete anything.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._mutex = Lock()
        #: By key, gone when nobody uses them. Whoever was interrupted may come back while what he left is not cleaned up.
        self._threads: WeakValueDictionary[str, RLock] = WeakValueDictionary()
        self._holders: dict[str, list[object]] = {}
        self._path = path
        self._file: Descriptor | None = None
        self._process = os.getpid()
        try:
            if not read_only:
                make_directory(path.parent, 0o700)
                self._file = inside.open_file(path, os.O_RDWR | os.O_CREAT, 0o600)
                self._file.close_in_children()
        except OSError as error:
            if error.errno not in _READ_ONLY or not _can_read(path.parent.parent):
                raise
        self.writable = self._fd is not None
        if self._fd is not None:
            try:
                self._set(fcntl.F_RDLCK, "probe")
                self._set(fcntl.F_UNLCK, "probe")
            except OSError as error:
                self.close()
                if error.errno not in _NO_LOCKS:
                    raise
                raise LocksUnavailable(
                    f"the file system of {path} has no working locks ({error.strerror}): processes could not share "
                    "the store safely; put the root on a local file system"
                ) from error
            self._make_room()

    def close(self) -> None:
        """Give everything back. A second call does nothing, nor does one in a forked child, whose locks these are not."""
        if self.inherited:
            return
        with self._mutex:
            self._holders.clear()
            if self._file is not None:
                self._file.close()
                self._file = None

    @property
    def inherited(self) -> bool:
        """Whether this is the copy that a forked child got, which locks nothing, and is of no use."""
        return os.getpid() != self._process

    def check_own(self) -> None:
        """See that this is the process which has opened the store: in a forked child, nobody would ever unlock a mutex.

        Raises:
            LayerStoreError: it is another.
        """
        if self.inherited:
            raise LayerStoreError(
                f"the store of {self._path} belongs to process {self._process}, which was forked: open it again in the child"
            )

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        """Wait until no other thread or process is in a block of this key, and keep them out. Not to be nested."""
        self.check_own()
        with self._mutex:
            lock = self._threads.setdefault(key, RLock())
        with lock:
            try:
                self._set(fcntl.F_WRLCK, f"exclusive {key}", wait=True)
                yield
            finally:
                self._set(fcntl.F_UNLCK, f"exclusive {key}")

    def acquire(self, key: str, holder: object = None) -> bool:
        """Take a hold; waits while another process has it solely.

        Args:
            holder: whose hold it is. Where an exception comes out of this call, the hold may have been taken or not: to
                drop one's own is right then.

        Returns:
            Whether it is this store's first hold of the key.
        """
        self.check_own()
        with self._mutex:
            holders = self._holders.get(key, [])
            try:
                if not holders:
                    self._set(fcntl.F_RDLCK, key, wait=True)
                self._holders[key] = [*holders, holder]
            except BaseException:
                self._restore(key)
                raise
            return not holders

    def release(self, key: str, holder: object = None) -> bool:
        """Give a hold back, if the holder has one.

        Returns:
            Whether it was this store's last hold of the key.
        """
        if self.inherited:
            return False
        with self._mutex:
            holders = self._holders.get(key, [])
            if holder not in holders:
                return False
            at = holders.index(holder)
            left = holders[:at] + holders[at + 1 :]
            if left:
                self._holders[key] = left
                return False
            del self._holders[key]
            self._restore(key)
            return True

    def is_referenced(self, key: str) -> bool:
        """Whether this or any other store holds the key."""
        self.check_own()
        with self._mutex:
            return key in self._holders or self._held_elsewhere(key)

    def is_exclusive_elsewhere(self, key: str) -> bool:
        """Whether another store is in an `exclusive` block of this key."""
        with self._mutex:
            return self._held_elsewhere(f"exclusive {key}")

    @contextmanager
    def lock_references(self, key: str) -> Iterator[bool]:
        """A block in which nobody else gets a hold of the key.

        Yields:
            Whether that is so: `False` where another store holds the key now. A hold of this store does not count.
        """
        self.check_own()
        alone = False
        try:
            with self._mutex:
                alone = self._fd is not None and self._try(fcntl.F_WRLCK, key)
            yield alone
        finally:
            if not self.inherited:
                with self._mutex:
                    self._restore(key)

    def generation(self, counter: Counter = Counter.RECORDS) -> int:
        """A number that changes with every change that a store makes to the records; -1 where there is none."""
        self.check_own()
        if self._fd is None:
            return -1
        data = os.pread(self._fd, _COUNTER.size, counter * _COUNTER.size)
        return _COUNTER.unpack(data)[0] if len(data) == _COUNTER.size else 0

    def advance(self, counter: Counter = Counter.RECORDS, by: int = 1) -> int:
        """Count a change, in an `exclusive` block; returns the new generation."""
        if self._fd is None:
            return -1
        new = self.generation(counter) + by
        os.pwrite(self._fd, _COUNTER.pack(new), counter * _COUNTER.size)
        return new

    @property
    def _fd(self) -> int | None:
        return None if self._file is None or self._file.number < 0 else self._file.number

    def _make_room(self) -> None:
        """See to it that counting needs no space: a full disk must not keep anybody from deleting."""
        assert self._fd is not None
        try:
            os.posix_fallocate(self._fd, 0, _COUNTER.size * len(Counter))
        except OSError:
            pass  # where there is none, the first change says so

    def _restore(self, key: str) -> None:
        """Set the lock on the key's byte to what this store's holds say."""
        self._set(fcntl.F_RDLCK if key in self._holders else fcntl.F_UNLCK, key)

    def _held_elsewhere(self, key: str) -> bool:
        if self._fd is None:
            return False
        # Locks of one's own open file description are not in the way, and not told.
        answer = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, _request(fcntl.F_WRLCK, key))
        kind: int = _FLOCK.unpack(answer)[0]
        return kind != fcntl.F_UNLCK

    def _try(self, kind: int, key: str) -> bool:
        try:
            self._set(kind, key)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def _set(self, kind: int, key: str, *, wait: bool = False) -> None:
        fd = self._fd
        if fd is None:
            return
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, _request(kind, key))
        except OSError as error:
            error.filename = str(self._path)
            raise


def _request(kind: int, key: str) -> bytes:
    digest = hashlib.blake2b(os.fsencode(key), digest_size=8).digest()
    byte = _FIRST_BYTE + (int.from_bytes(digest, "big") >> 2)
    return _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)


def _can_read(directory: Path) -> bool:
    return os.access(directory, os.R_OK | os.X_OK)
