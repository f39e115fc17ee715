"""A binary stream over chunks that are made as it is read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from layerstore_core.errors import LayerStoreError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class IterStream(io.RawIOBase):
    """A readable stream of the bytes that an iterator gives.

    `read(n)` gives up to `n` bytes, and `b""` only at the end, as a raw stream does; wrap it in
    `io.BufferedReader` where exactly `n` are wanted.

    Args:
        chunks: the bytes, in pieces of any length; each is done with when the next one is asked for.
        on_close: called once, when the stream is closed: also where nothing was ever read.
    """

    def __init__(self, chunks: Iterator[bytes | memoryview], on_close: Callable[[], None] | None = None) -> None:
        self._chunks = chunks
        self._on_close = on_close
        self._left = memoryview(b"")
        self._process = os.getpid()

    def readable(self) -> bool:
        """Always true."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes; all that is left for a negative size or `None`."""
        if size is None or size < 0:
            return self.readall()
        if not self._fill():
            return b""
        data, self._left = self._left[:size], self._left[size:]
        return bytes(data)

    def readall(self) -> bytes:
        """All that is left."""
        parts = []
        while self._fill():
            parts.append(bytes(self._left))
            self._left = memoryview(b"")
        return b"".join(parts)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` as far as one chunk goes; returns how many bytes."""
        target = memoryview(buffer).cast("B")
        if not self._fill():
            return 0
        size = min(len(target), len(self._left))
        target[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def close(self) -> None:
        """Stop, and release what the chunks come from. A second call does nothing."""
        if self.closed:
            return
        self._left = memoryview(b"")
        try:
            # A generator's `finally` clauses run now, and not when it happens to be collected.
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        finally:
            super().close()
            if self._on_close is not None:
                self._on_close()

    def _fill(self) -> bool:
        if self.closed:
            raise ValueError("read of a closed stream")
        while not self._left:
            if os.getpid() != self._process:
                # Its threads are not here, and its other processes listen to the parent.
                raise LayerStoreError(
                    f"the stream belongs to process {self._process}, which was forked: open the store, and it, again in the child"
                )
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._left = memoryview(chunk)
        return True
