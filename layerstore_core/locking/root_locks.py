"""Locks between processes. They are kernel locks, so the locks of a process are released as soon as it ends.

All are byte-range locks of the *open file description* kind (fcntl(2), "Open file description locks") on one file,
`<root>/layerstore/locks`. A key's byte is derived from its hash, so that one descriptor is enough for any number of
keys. Two keys have the same byte with a probability of 2^-62 for a pair. They would only wait for each other.

There are three ways to lock a key:

- `exclusive(key)`: an exclusive lock for one thread of one process, for the length of a `with` block.
- `acquire(key)` and `release(key)`: a reference, which is a shared lock. References are counted. A reference lasts
  until it is released, or the process ends.
- `lock_references(key)`: an exclusive lock against new references of others, for the length of a `with` block, if no
  other store has a reference.

The store takes locks in this order, so that no two processes wait for each other: the images, the name of a writable
layer, then a layer of the driver, then the records. References to layers are acquired in between, at any time.
Therefore no process waits for any other lock than that of the records while it is in a block of `lock_references`.
"""

from __future__ import annotations

import errno
import fcntl
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
from layerstore_core.locking.file_locks import is_locked, set_lock

try:
    from _blake2 import blake2b  # the same function, without OpenSSL: to load that takes a fortieth of a short command
except ImportError:
    from hashlib import blake2b

#: Bytes below this one are not used for locks. The counters are the content of the file.
_FIRST_BYTE: Final = 1 << 12
_COUNTER: Final = struct.Struct("<q")
_NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


class Counter(IntEnum):
    """A counter in the lock file. Its value is its place there."""

    RECORDS = 0
    IMAGES = 1


class LocksUnavailable(LayerStoreError):
    """The file system of the root has no working locks, so processes could not share the root safely."""


class RootLocks:
    """The locks of one root, for one open store. Each store has its own, also within one process.

    Args:
        path: the lock file. It and its directory are made if they are missing.
        read_only: whether to take no locks and write nothing.

    Raises:
        LocksUnavailable: the file system does not support locks.
        BadRecord: the path is not a regular file, but a link, for example. Nothing is written to it.
        OSError: the file cannot be made.

    Attributes:
        writable: whether the root can be written, and `read_only` is false. If not, no kernel locks are taken: this
            store deletes nothing, and other processes may delete what it reads.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._mutex = Lock()
        #: Locks between threads, by key; each is deleted after its last use. They are reentrant: an interrupted thread
        #: may enter a block again before the interrupted block is cleaned up.
        self._threads: WeakValueDictionary[str, RLock] = WeakValueDictionary()
        #: The owners of this store's references, by key; an owner once for each of its references.
        self._owners: dict[str, list[object]] = {}
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
            self._preallocate_counters()

    def close(self) -> None:
        """Release all locks. A second call does nothing, nor does a call in a forked child, which does not own them."""
        if self.inherited:
            return
        with self._mutex:
            self._owners.clear()
            if self._file is not None:
                self._file.close()
                self._file = None

    @property
    def inherited(self) -> bool:
        """Whether this object is a copy in a forked child. It has no locks there, and must not be used."""
        return os.getpid() != self._process

    def check_own(self) -> None:
        """Check that this is the process that opened the store. In a forked child, a mutex might stay locked for ever.

        Raises:
            LayerStoreError: it is another process.
        """
        if self.inherited:
            raise LayerStoreError(
                f"the store of {self._path} belongs to process {self._process}, which was forked: open it again in "
                "the child"
            )

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        """Lock a key exclusively for the length of a `with` block: wait until no other thread or process has it.

        Blocks of the same key must not be nested.
        """
        self.check_own()
        with self._mutex:
            lock = self._threads.setdefault(key, RLock())
        with lock:
            try:
                self._set(fcntl.F_WRLCK, f"exclusive {key}", wait=True)
                yield
            finally:
                self._set(fcntl.F_UNLCK, f"exclusive {key}")

    def acquire(self, key: str, owner: object = None) -> bool:
        """Acquire a reference to a key. Wait while another store is in a `lock_references` block of it.

        Args:
            key: the key.
            owner: the owner of the reference. If this call raises, the reference may have been acquired or not. Then it
                is right to release it with the same owner.

        Returns:
            Whether it is this store's first reference to the key.
        """
        self.check_own()
        with self._mutex:
            owners = self._owners.get(key, [])
            try:
                if not owners:
                    self._set(fcntl.F_RDLCK, key, wait=True)
                self._owners[key] = [*owners, owner]
            except BaseException:
                self._restore(key)
                raise
            return not owners

    def release(self, key: str, owner: object = None) -> bool:
        """Release a reference to a key, if the owner has one.

        Returns:
            Whether it was this store's last reference to the key.
        """
        if self.inherited:
            return False
        with self._mutex:
            owners = self._owners.get(key, [])
            if owner not in owners:
                return False
            at = owners.index(owner)
            others = owners[:at] + owners[at + 1 :]
            if others:
                self._owners[key] = others
                return False
            del self._owners[key]
            self._restore(key)
            return True

    def is_referenced(self, key: str) -> bool:
        """Return whether this or any other store has a reference to the key."""
        self.check_own()
        with self._mutex:
            return key in self._owners or self._is_locked_elsewhere(key)

    def is_exclusive_elsewhere(self, key: str) -> bool:
        """Return whether another store is in an `exclusive` block of this key."""
        with self._mutex:
            return self._is_locked_elsewhere(f"exclusive {key}")

    @contextmanager
    def lock_references(self, key: str) -> Iterator[bool]:
        """Lock a key against new references of other stores, for the length of a `with` block.

        Yields:
            Whether it is locked: `False` if another store has a reference, or is in such a block, now. References of
            this store do not count.
        """
        self.check_own()
        locked = False
        try:
            with self._mutex:
                locked = self._fd is not None and self._try(fcntl.F_WRLCK, key)
            yield locked
        finally:
            if not self.inherited:
                with self._mutex:
                    self._restore(key)

    def generation(self, counter: Counter = Counter.RECORDS) -> int:
        """Return a number that changes with each change of a store to the records; -1 if there is no lock file."""
        self.check_own()
        if self._fd is None:
            return -1
        data = os.pread(self._fd, _COUNTER.size, counter * _COUNTER.size)
        return _COUNTER.unpack(data)[0] if len(data) == _COUNTER.size else 0

    def advance(self, counter: Counter = Counter.RECORDS, by: int = 1) -> int:
        """Count a change, and return the new generation. The caller must be in an `exclusive` block."""
        if self._fd is None:
            return -1
        new = self.generation(counter) + by
        os.pwrite(self._fd, _COUNTER.pack(new), counter * _COUNTER.size)
        return new

    @property
    def _fd(self) -> int | None:
        return None if self._file is None or self._file.number < 0 else self._file.number

    def _preallocate_counters(self) -> None:
        """Preallocate the counters, so that deletion works on a full disk."""
        assert self._fd is not None
        try:
            os.posix_fallocate(self._fd, 0, _COUNTER.size * len(Counter))
        except OSError:
            pass  # if the disk is full, the first change reports it

    def _restore(self, key: str) -> None:
        """Set the lock on the key's byte as this store's references need it: shared, or none."""
        self._set(fcntl.F_RDLCK if key in self._owners else fcntl.F_UNLCK, key)

    def _is_locked_elsewhere(self, key: str) -> bool:
        if self._fd is None:
            return False
        # Locks of the same open file description do not conflict, so the kernel does not report them.
        return is_locked(self._fd, start=_byte(key), length=1)

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
            set_lock(fd, kind, start=_byte(key), length=1, wait=wait)
        except OSError as error:
            error.filename = str(self._path)
            raise


def _byte(key: str) -> int:
    """Return the byte of a key."""
    digest = blake2b(os.fsencode(key), digest_size=8).digest()
    return _FIRST_BYTE + (int.from_bytes(digest, "big") >> 2)


def _can_read(directory: Path) -> bool:
    return os.access(directory, os.R_OK | os.X_OK)
