"""The content of a file as a binary file object, read from the payload in its layer."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_ZEROS: Final = bytes(1 << 20)


class Content(io.RawIOBase):
    """A file's content. It can be read from any position, but reading backwards begins again from the start.

    Args:
        chunks: starts a reading of the whole content.
        size: its length in bytes.
        name: the file's path, for messages.
    """

    def __init__(self, chunks: Callable[[], Iterator[bytes]], size: int, name: str) -> None:
        self._chunks = chunks
        self._size = size
        self.name = name
        self._reading: Iterator[bytes] | None = None
        #: The position of the reading: the offset of the first byte of `_left`.
        self._read = 0
        self._left = memoryview(b"")
        self._position = 0

    def readable(self) -> bool:
        """Return `True`."""
        return True

    def seekable(self) -> bool:
        """Return `True`."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position. Nothing is read before the next `read`."""
        self._check_open()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}.get(whence)
        if start is None:
            raise ValueError(f"invalid whence {whence}: it is 0, 1 or 2")
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read bytes into `buffer`, and return how many; 0 only at the end.

        Raises:
            IntegrityError: the layer is damaged.
        """
        self._check_open()
        target = memoryview(buffer).cast("B")
        if not target or self._position >= self._size:
            return 0
        if self._reading is None or self._position < self._read:
            self._reading, self._read, self._left = self._chunks(), 0, memoryview(b"")
        while self._position >= self._read + len(self._left):
            self._read += len(self._left)
            self._left = memoryview(next(self._reading))
        piece = self._left[self._position - self._read :][: len(target)]
        target[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        """End the reading."""
        reading, self._reading, self._left = self._reading, None, memoryview(b"")
        super().close()
        if isinstance(reading, Generator):
            reading.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def expand(payload: Iterator[bytes], regions: list[tuple[int, int]], size: int) -> Iterator[bytes]:
    """Yield the content of a sparse file, from its data regions one after the other."""
    position = 0
    chunk = memoryview(b"")
    for offset, length in regions:
        yield from zeros(offset - position)
        position = offset + length
        while length:
            if not chunk:
                chunk = memoryview(next(payload))
            piece = chunk[:length]
            chunk = chunk[len(piece) :]
            length -= len(piece)
            yield bytes(piece)
    yield from zeros(size - position)


def zeros(count: int) -> Iterator[bytes]:
    """Yield that many zeros, in chunks."""
    while count > 0:
        chunk = _ZEROS[:count]
        count -= len(chunk)
        yield chunk
