"""A thread that processes chunks while other code produces them, and sha256 in such a thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Final, Self

#: How many chunks may wait for the thread: a few MiB.
QUEUE: Final = 4


class WorkerThread:
    """A thread that calls a function with each chunk, in order; a context manager that ends the thread.

    It saves the time that the function spends without the GIL: hashing and writing release it. A chunk should have
    about a MiB, so that it is worth passing it to the thread. When `put` returns, all chunks but the last `QUEUE` have
    been processed.

    Args:
        work: the function.
        name: the name of the thread.
    """

    def __init__(self, work: Callable[[bytes | memoryview], object], name: str) -> None:
        self._work = work
        self._name = name
        self._chunks: SimpleQueue[bytes | memoryview | None] = SimpleQueue()
        #: One item for each chunk that may still be queued. It is a queue because that is written in C: a semaphore
        #: would need the GIL for longer.
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(QUEUE):
            self._room.put(None)
        self._thread: Thread | None = None
        self._errors: list[BaseException] = []

    def put(self, chunk: bytes | memoryview) -> None:
        """Pass a chunk to the thread. Wait while too many chunks are queued.

        Raises:
            BaseException: an exception that the function raised with an earlier chunk. The function is not called
            again.
        """
        if self._thread is None:
            # The thread has no reference to this object. So an unused object is deleted, and that ends the thread.
            arguments = self._work, self._chunks, self._room, self._errors
            self._thread = Thread(target=_process_all, args=arguments, name=self._name, daemon=True)
            self._thread.start()
        self._room.get()
        self._raise_error()
        self._chunks.put(chunk)

    def finish(self) -> None:
        """Wait until all chunks have been processed.

        Raises:
            BaseException: as from `put`.
        """
        self.stop()
        self._raise_error()

    def stop(self) -> None:
        """End the thread, after it has processed the queued chunks. A second call does nothing."""
        if self._thread is not None:
            self._chunks.put(None)
            join_thread(self._thread)
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __del__(self) -> None:
        self._chunks.put(None)

    def _raise_error(self) -> None:
        if self._errors:
            raise self._errors.pop()


def _process_all(
    work: Callable[[bytes | memoryview], object],
    chunks: SimpleQueue[bytes | memoryview | None],
    room: SimpleQueue[None],
    errors: list[BaseException],
) -> None:
    failed = False
    while (chunk := chunks.get()) is not None:
        if not failed:
            try:
                work(chunk)
            except BaseException as error:
                errors.append(error)
                failed = True
        room.put(None)


def join_thread(thread: Thread) -> None:
    """Wait for the end of a thread. If its `start` was interrupted, do not wait."""
    with suppress(RuntimeError):
        thread.join()


class Hasher:
    """sha256 in a separate thread; a context manager that ends the thread.

    hashlib releases the GIL, so hashing costs no time if there is a second core.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._thread = WorkerThread(self._hash.update, "layerstore-hash")

    def update(self, chunk: bytes | memoryview) -> None:
        """Hash a chunk, which should have about a MiB. Wait while too many chunks are queued."""
        self._thread.put(chunk)

    def finish(self) -> str:
        """Wait for the thread, and return the digest of all chunks, in hex."""
        self._thread.finish()
        return self._hash.hexdigest()

    def stop(self) -> None:
        """End the thread. A second call does nothing."""
        self._thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
