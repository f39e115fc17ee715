"""A blob as a file that can be read before all of it is there."""

from __future__ import annotations

from collections.abc import Callable

from layerstore_core.streams.positioned import PositionedFile


class FollowedBlob(PositionedFile):
    """A blob that is read while it is received; `Downloads.open` makes it.

    Args:
        size: its size, in bytes.
        read_at: returns bytes from a position on, at most so many; it waits for them.
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
        super().__init__(size, name)
        self._read_at = read_at
        self._done = done

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `size` bytes, and at least one; without a size, read all. Errors as `Downloads.read`."""
        if size is None or size < 0:
            return self.readall()
        # The base class reads by `readinto`, which would copy all bytes twice.
        data = self._read_at(self._position, size)
        self._position += len(data)
        return data

    def close(self) -> None:
        """Close this object. A second call does nothing."""
        if not self.closed and self._done is not None:
            self._done()
        super().close()
