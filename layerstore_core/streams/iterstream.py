"""A binary stream over chunks that an iterator produces on demand."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from layerstore_core.errors import LayerStoreError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Small pieces are joined up to this size, in bytes.
_JOINED: Final = 1 << 17


class IterStream(io.RawIOBase):
    """A readable stream of the bytes from an iterator.

    `read(n)` returns up to `n` bytes, and `b""` only at the end, like any raw stream. To get exactly `n` bytes, wrap
    the stream in `io.BufferedReader`.

    Args:
        chunks: the bytes, in pieces of any length. A piece is not used any more when the next one is requested.
        on_close: called once, when the stream is closed, even if nothing was read.
    """

    def __init__(self, chunks: Iterator[bytes | memoryview], on_close: Callable[[], None] | None = None) -> None:
        self._chunks = chunks
        self._on_close = on_close
        self._left = memoryview(b"")
        self._process = os.getpid()

    def readable(self) -> bool:
        """Return `True`."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, or all the rest for a negative size or `None`."""
        if size is None or size < 0:
            return self.readall()
        if not self._fill():
            return b""
        data, self._left = self._left[:size], self._left[size:]
        return bytes(data)

    def readall(self) -> bytes:
        """Read all the rest."""
        parts = []
        while self._fill():
            parts.append(bytes(self._left))
            self._left = memoryview(b"")
        return b"".join(parts)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read bytes of one chunk into `buffer`, and return how many."""
        target = memoryview(buffer).cast("B")
        if not self._fill():
            return 0
        size = min(len(target), len(self._left))
        target[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def close(self) -> None:
        """Close the stream, and the iterator with its resources. A second call does nothing."""
        if self.closed:
            return
        self._left = memoryview(b"")
        try:
            # So a generator's `finally` clauses run now, and not at some later garbage collection.
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
                # Its threads do not exist in the child.
                raise LayerStoreError(
                    f"the stream belongs to process {self._process}, which was forked: open the store and the stream "
                    "again in the child"
                )
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._left = memoryview(chunk)
        return True


def join_small_pieces(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join small pieces, since every chunk costs its reader one iteration; close `pieces` at the end."""
    parts: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            parts.append(piece)
            size += len(piece)
            if size >= _JOINED:
                yield b"".join(parts) if len(parts) > 1 else piece
                parts.clear()
                size = 0
        yield b"".join(parts)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
