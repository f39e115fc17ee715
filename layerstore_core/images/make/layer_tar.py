"""The stream of a layer that is being built: read once or several times, always the same bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from layerstore_core.streams.iterstream import IterStream

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK: Final = 1 << 20


class LayerTar(io.RawIOBase):
    """A readable stream of chunks that are produced on demand, and produced again when it seeks back.

    That it can seek spares `LayerStore.register` a temporary copy of it.

    Args:
        chunks: starts to produce the bytes.
        name: the name of the stream, for messages.
    """

    def __init__(self, chunks: Callable[[], Iterator[bytes]], name: str) -> None:
        self._chunks = chunks
        self._stream = IterStream(chunks())
        self._position = 0
        self.name = name

    def readable(self) -> bool:
        """Return `True`."""
        return True

    def seekable(self) -> bool:
        """Return `True`."""
        return True

    def tell(self) -> int:
        """Return the number of bytes before the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a position, counted from the start. To go back is to produce all bytes before it again."""
        if whence != os.SEEK_SET or offset < 0:
            raise io.UnsupportedOperation("this stream seeks to positions that are counted from its start only")
        if offset < self._position:
            self._stream.close()
            self._stream = IterStream(self._chunks())
            self._position = 0
        while self._position < offset and self.read(min(offset - self._position, _CHUNK)):
            pass
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, or all the rest for a negative size or `None`."""
        data = self._stream.read(size)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Read all the rest."""
        return self.read(-1)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read bytes into `buffer`, and return how many."""
        count = self._stream.readinto(buffer)
        self._position += count
        return count

    def close(self) -> None:
        """Close the stream. A second call does nothing."""
        self._stream.close()
        super().close()
