"""Reading the blob of a layer, and verifying its digest meanwhile."""

from __future__ import annotations

import hashlib
import io
import os
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from layerstore_core.base.threads import Lane
from layerstore_core.errors import InvalidLayer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class VerifiedBlob(io.RawIOBase):
    """A blob whose last read fails if its digest is wrong.

    Bytes that are read again after a seek are not verified again.

    Args:
        file: the blob, at its start. This object closes it.
        digest: the expected digest, `<algorithm>:<hex>`.
    """

    def __init__(self, file: BinaryIO, digest: str) -> None:
        self._file = file
        self._algorithm, _, self._expected = digest.partition(":")
        self._hash = hashlib.new(self._algorithm)
        self._hashing = Lane("layerstore-blob")
        self._checked = False
        self.name = str(getattr(file, "name", digest))

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return whether the blob's file can seek."""
        return self._file.seekable()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to an offset. Use this only to read again after the end was reached and the digest verified."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in the blob's file."""
        return self._file.tell()

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `size` bytes; without a size, read all.

        Raises:
            InvalidLayer: the end is reached, and the digest is wrong.
        """
        if size is None or size < 0:
            return self.readall()
        # The base class reads by `readinto`, which would copy all bytes twice.
        data = self._file.read(size)
        if size:
            self._verify(data)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some bytes into a buffer; return their number.

        Raises:
            InvalidLayer: the end is reached, and the digest is wrong.
        """
        target = memoryview(buffer).cast("B")
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the blob's file."""
        if not self.closed:
            self._hashing.close()
            self._file.close()
        super().close()

    def _verify(self, data: bytes) -> None:
        """Add bytes to the hash; at the end, compare the digest."""
        if self._checked:
            return
        if data:
            self._hashing.put(partial(self._hash.update, data))
            return
        self._checked = True
        self._hashing.drain()
        if (found := self._hash.hexdigest()) != self._expected:
            expected = f"{self._algorithm}:{self._expected}"
            raise InvalidLayer(f"the blob is damaged: its digest is {self._algorithm}:{found}, not {expected}")
