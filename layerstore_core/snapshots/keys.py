"""Locks of keys, between the threads of one owner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Final
from weakref import WeakValueDictionary


class KeyLocks:
    """A lock for each key that is in use: operations on the same key wait for each other."""

    def __init__(self) -> None:
        self._mutex: Final = Lock()
        self._locks: Final[WeakValueDictionary[str, _KeyLock]] = WeakValueDictionary()

    @contextmanager
    def locking(self, *keys: str) -> Iterator[None]:
        """Lock keys for a block, always in the same order. Not to be nested."""
        with self._mutex:
            locks = [self._locks.setdefault(key, _KeyLock()) for key in sorted(set(keys))]
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock.lock)
            yield


class _KeyLock:
    """A lock to which there can be weak references."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = Lock()
