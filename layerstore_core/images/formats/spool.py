"""Spooling: an archive that cannot be read in place is written to an unnamed file, as far as it is needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.limits import Limit, Limits
from layerstore_core.errors import InvalidImage, InvalidLayer, while_doing
from layerstore_core.streams.compression import CHUNK, MAGIC_SIZE, detect
from layerstore_core.streams.prefetch import DecompressAhead

#: Of the members that are larger than a layer may be, this many bytes are kept in all: a small one may be a config or
#: a manifest.
_DOCUMENTS: Final = 32 << 20


class Spool:
    """A file with the uncompressed bytes of an archive, as far as they have been read.

    Args:
        read: returns at most the given number of bytes of the archive; `b""` at the end.
        directory: the directory for the file.
        name: the name of the archive in messages.
        limits: the limits on the size of the archive and of a layer.

    Raises:
        OSError: the archive cannot be read, or the file cannot be written.

    Attributes:
        file: the file.
        dropped: how many of the bytes read so far are not in the file. An offset in the archive minus this number is
            the offset in the file, for the bytes that follow.
    """

    def __init__(self, read: Callable[[int], bytes], directory: Path, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._documents = _DOCUMENTS
        self._read = read
        self._first = b""
        while len(self._first) < MAGIC_SIZE and (more := read(CHUNK)):
            self._first += more
        compression = detect(self._first)
        self._ahead = DecompressAhead(self._next_input, compression) if compression else None
        self._read_plain = self._ahead.read_chunk if self._ahead else self._next_input
        self._pending = memoryview(b"")
        self._position = 0
        self.dropped = 0
        self._ended = False
        with while_doing(f"spooling {name}"):
            self.file = inside.temporary_file(directory)

    def fill(self, end: int, *, keep: bool = True) -> bool:
        """Read the archive up to the offset `end`.

        Args:
            end: the offset in the uncompressed archive, in bytes.
            keep: whether to write the bytes to the file.

        Returns:
            Whether the archive has as many bytes.

        Raises:
            InvalidImage: the archive is damaged, or larger than the limit.
            OSError: the archive cannot be read, or the file cannot be written.
        """
        while self._position < end and (self._pending or self._more()):
            piece = self._pending[: end - self._position]
            self._pending = self._pending[len(piece) :]
            if keep:
                self._write(piece)
            else:
                self.dropped += len(piece)
            self._position += len(piece)
        return self._position >= end

    def too_large(self, size: int) -> Limit | None:
        """Return the limit that a member of `size` bytes exceeds, so that it is not kept; `None` if it is kept."""
        layer = self._limits.layer
        if layer is None or size <= layer.compressed:
            return None
        if size <= self._documents:
            self._documents -= size
            return None
        return layer

    def finish(self) -> None:
        """Read the archive to its end: its writer may wait for that, and checksums are verified there.

        Errors are as for `fill`.
        """
        self._pending = memoryview(b"")
        try:
            while self._more():
                self._position += len(self._pending)
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop the thread that decompresses the archive. The file stays open. A second call does nothing."""
        if self._ahead is not None:
            self._ahead.stop()

    def _more(self) -> bool:
        if not self._ended:
            try:
                chunk = self._read_plain()
            except InvalidLayer as error:
                raise InvalidImage(f"{self._name}: {error.reason}") from error
            self._pending = memoryview(chunk)
            self._ended = not chunk
        limit = self._limits.spool
        if self._position + len(self._pending) > limit.bytes:
            raise InvalidImage(
                f"{self._name}: the archive has more bytes, uncompressed, than {limit}; "
                "raise the setting, or unpack the archive and load it from the file"
            )
        return not self._ended

    def _write(self, piece: memoryview) -> None:
        position = self._position - self.dropped
        with while_doing(f"spooling {self._name}"):
            while piece:
                count = os.pwrite(self.file.fileno(), piece, position)
                piece = piece[count:]
                position += count

    def _next_input(self) -> bytes:
        chunk, self._first = self._first, b""
        return chunk or self._read(CHUNK)
