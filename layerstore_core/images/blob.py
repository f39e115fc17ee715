"""Reading a layer's blob: its digest is checked while it passes."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, BinaryIO

from layerstore_core.errors import InvalidLayer
from layerstore_core.streams.hasher import WorkerThread

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class VerifiedBlob(io.RawIOBase):
    """A blob whose last read fails if it is not what it should be. What is read again later is not checked again.

    Args:
        file: the blob, at its start; it belongs to this object from now on.
        digest: what it has to be, `<algorithm>:<hex>`.
    """

    def __init__(self, file: BinaryIO, digest: str) -> None:
        self._file = file
        self._algorithm, _, self._expected = digest.partition(":")
        self._hash = hashlib.new(self._algorithm)
        self._hashing = WorkerThread(self._hash.update, "layerstore-blob")
        self._checked = False
        self.name = str(getattr(file, "name", digest))

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Whether the blob's file can seek."""
        return self._file.seekable()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go elsewhere: only to read again what has been checked."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the blob's file stands."""
        return self._file.tell()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read some bytes; without a size, all.

        Raises:
            InvalidLayer: this is the end, and the digest is another.
        """
        if size is None or size < 0:
            return self.readall()
        # Not through `readinto`, as the base class does: that would copy everything twice.
        data = self._file.read(size)
        if size:
            self._look_at(data)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some bytes.

        Raises:
            InvalidLayer: this is the end, and the digest is another.
        """
        target = memoryview(buffer).cast("B")
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the blob's file."""
        if not self.closed:
            self._hashing.stop()
            self._file.close()
        super().close()

    def _look_at(self, data: bytes) -> None:
        if self._checked:
            return
        if data:
            self._hashing.put(data)
            return
        self._checked = True
        self._hashing.finish()
        if (found := self._hash.hexdigest()) != self._expected:
            expected = f"{self._algorithm}:{self._expected}"
            raise InvalidLayer(f"the blob is damaged: its digest is {self._algorithm}:{found}, not {expected}")
