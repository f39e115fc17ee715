"""sha256 beside other work."""

from __future__ import annotations

import hashlib
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Final, Self

#: Chunks that may wait to be hashed: a few MiB.
_QUEUE: Final = 4


class Hasher:
    """sha256 in a thread of its own: hashing lets go of the interpreter, so that it costs no time on a second core.

    A context manager that ends the thread.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._chunks: SimpleQueue[bytes | None] = SimpleQueue()
        self._room = Semaphore(_QUEUE)
        self._thread: Thread | None = None

    def update(self, chunk: bytes) -> None:
        """Go on with `chunk`, of about a MiB; waits while too many are still to be hashed."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="layerstore-hash", daemon=True)
            self._thread.start()
        self._room.acquire()
        self._chunks.put(chunk)

    def finish(self) -> str:
        """The digest of all, in hex."""
        self.stop()
        return self._hash.hexdigest()

    def stop(self) -> None:
        """End the thread. A second call does nothing."""
        if self._thread is not None:
            self._chunks.put(None)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            self._hash.update(chunk)
            self._room.release()
