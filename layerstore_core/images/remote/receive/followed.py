"""A blob as a file that can be read before all of it is there."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class FollowedBlob(io.RawIOBase):
    """A blob that is read while it is received; `Downloads.open` makes it.

    Args:
        size: its size, in bytes.
        read_at: returns bytes from a position on, at most as many as it is told; it waits for them.
        name: its name in messages.
        done: called when it is closed.
    """

    def __init__(
        self,
        size: int,
        read_at: Callable[[int, int], bytes],
        name: str,
        done: Callable[[], object] | None = None,
    ) -> None:
        self._size = size
        self._read_at = read_at
        self._done = done
        self._position = 0
        self.name = name

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to an offset."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `size` bytes, and at least one; without a size, read all. Errors as `Downloads.read`."""
        if size is None or size < 0:
            return self.readall()
        # The base class reads by `readinto`, which would copy all bytes twice.
        data = self._read_at(self._position, size)
        self._position += len(data)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some bytes into a buffer; return their number. Errors as `Downloads.read`."""
        target = memoryview(buffer).cast("B")
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close this object. A second call does nothing."""
        if not self.closed and self._done is not None:
            self._done()
        super().close()
