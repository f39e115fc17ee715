"""Chunks that are worked on in a thread, beside what makes them: sha256 above all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Final, Self

#: Chunks that may wait: a few MiB.
QUEUE: Final = 4


class WorkerThread:
    """Calls a function with each chunk, in their order, in a thread of its own. A context manager that ends the thread.

    It gains what the function does without the interpreter: hashing and writing let go of it. A chunk of about a MiB is
    worth the hand-over. When `put` returns, all chunks but the last `QUEUE` are done with.

    Args:
        work: the function.
        name: the thread's.
    """

    def __init__(self, work: Callable[[bytes | memoryview], object], name: str) -> None:
        self._work = work
        self._name = name
        self._chunks: SimpleQueue[bytes | memoryview | None] = SimpleQueue()
        #: One for each chunk that may wait. A queue, as it is of C: a semaphore would keep the interpreter longer.
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(QUEUE):
            self._room.put(None)
        self._thread: Thread | None = None
        self._errors: list[BaseException] = []

    def put(self, chunk: bytes | memoryview) -> None:
        """Hand a chunk over; waits while too many are still to be worked on.

        Raises:
            BaseException: what the function raised with an earlier one; it is called no more after that.
        """
        if self._thread is None:
            # The thread does not know this object, so that one which is forgotten goes, and ends it.
            arguments = self._work, self._chunks, self._room, self._errors
            self._thread = Thread(target=_work_off, args=arguments, name=self._name, daemon=True)
            self._thread.start()
        self._room.get()
        self._raise()
        self._chunks.put(chunk)

    def finish(self) -> None:
        """Wait until all is done.

        Raises:
            BaseException: as `put`.
        """
        self.stop()
        self._raise()

    def stop(self) -> None:
        """End the thread, once it has done what it has. A second call does nothing."""
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

    def _raise(self) -> None:
        if self._errors:
            raise self._errors.pop()


def _work_off(
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
    """Wait for the end of a thread that ends by itself; one whose `start` was interrupted need not be waited for."""
    with suppress(RuntimeError):
        thread.join()


class Hasher:
    """sha256 in a thread of its own: hashing lets go of the interpreter, so that it costs no time on a second core.

    A context manager that ends the thread.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._beside = WorkerThread(self._hash.update, "layerstore-hash")

    def update(self, chunk: bytes | memoryview) -> None:
        """Go on with `chunk`, of about a MiB; waits while too many are still to be hashed."""
        self._beside.put(chunk)

    def finish(self) -> str:
        """The digest of all, in hex."""
        self._beside.finish()
        return self._hash.hexdigest()

    def stop(self) -> None:
        """End the thread. A second call does nothing."""
        self._beside.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
