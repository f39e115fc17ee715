"""sha256, at the same time as the code that produces the bytes."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Final, Self

from layerstore_core.base.threads import Lane

#: How many chunks may wait for the hash, or for another lane that gets the same chunks: a few MiB.
QUEUE: Final = 4


class Hasher:
    """sha256 of chunks, at the same time as the code that produces them; a context manager that ends it.

    hashlib releases the GIL, so hashing costs no time if there is a second core.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._lane = Lane("layerstore-hash", depth=QUEUE)

    def update(self, chunk: bytes | memoryview) -> None:
        """Hash a chunk, which should have about a MiB. Wait while too many chunks are queued."""
        self._lane.put(partial(self._hash.update, chunk))

    def finish(self) -> str:
        """Wait until all chunks are hashed, and return their digest, in hex."""
        self._lane.drain()
        return self._hash.hexdigest()

    def stop(self) -> None:
        """Drop the chunks that were not hashed. A second call does nothing."""
        self._lane.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
