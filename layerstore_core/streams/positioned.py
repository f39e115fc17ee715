"""A file of known size with a position of its own."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class PositionedFile(io.RawIOBase):
    """A file that can seek. A subclass has `read`, or `readinto`, and moves `_position`.

    Args:
        size: its size in bytes.
        name: its name in messages.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
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

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some bytes into a buffer by `read`; return their number. Errors as `read`."""
        target = memoryview(buffer).cast("B")
        data = self.read(len(target)) or b""
        target[: len(data)] = data
        return len(data)
