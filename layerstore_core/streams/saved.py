"""Payloads of a layer that its files no longer have, saved before the layer itself replaced or removed them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from layerstore_core.base.limits import Limits
from layerstore_core.errors import InvalidLayer, while_doing

#: Up to this size in bytes they are kept in memory, and beyond it in a temporary file without a name.
_IN_MEMORY: Final = 8 << 20
_CHUNK: Final = 1 << 20
#: The most payloads, so that memory is bounded: about 100 bytes each.
_MOST: Final = 1 << 20


class SavedPayloads:
    """Contents of files, found by their size and CRC-64, as the lines of tar-split have them.

    So nothing of a pipe has to be kept in case that it is needed again: a payload is in its file until the layer
    replaces that, and is saved just before. Few layers replace files of their own.

    Args:
        directory: the directory of the temporary file, which has no name.
        limits: how many bytes are accepted; `None` for any number.
        name: the layer's name in messages.
    """

    def __init__(self, directory: Path, limits: Limits | None, name: str) -> None:
        import tempfile  # lazy: with what it loads, it takes 5 ms, and files need no spool

        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(directory))  # noqa: SIM115
        self._limits = limits
        self._name = name
        self._end = 0
        #: Offsets in the file.
        self._known: dict[tuple[int, int], int] = {}

    def add(self, descriptor: int) -> None:
        """Save the content of a file.

        Args:
            descriptor: the file, at its start.

        Raises:
            InvalidLayer: there are more than is accepted, or the layer was made to deceive the checksum.
            OSError: the file cannot be read, or its content not written.
        """
        from fastcrc import crc64

        start = end = self._end
        crc = None
        self._file.seek(start)
        while chunk := os.read(descriptor, _CHUNK):
            end += len(chunk)
            if self._limits is not None and end > self._limits.spool.bytes:
                raise InvalidLayer(
                    f"files of more bytes than {self._limits.spool} are replaced in it; register it from a file"
                )
            crc = crc64.go_iso(chunk, crc)
            with while_doing(f"saving replaced files of {self._name}"):
                self._file.write(chunk)
        if crc is None:
            return  # an empty payload is in no file
        key = end - start, crc
        known = self._known.setdefault(key, start)
        if known == start:
            self._end = end
            if len(self._known) > _MOST:
                raise InvalidLayer(f"it replaces more than {_MOST} files of its own; register it from a file")
        elif any(
            one != other
            for one, other in zip(self._read(known, end - start), self._read(start, end - start), strict=True)
        ):
            raise InvalidLayer("two contents of one size with the same CRC-64")

    def payload(self, offset: int, size: int, crc: int) -> Iterator[bytes] | None:
        """Return the payload of this size and checksum, in chunks; `None` if there is none, and its file has it."""
        start = self._known.get((size, crc))
        return None if start is None else self._read(start, size)

    def close(self) -> None:
        """Remove the payloads."""
        self._file.close()

    def _read(self, start: int, size: int) -> Iterator[bytes]:
        while size:
            self._file.seek(start)  # another reading may have moved
            chunk = self._file.read(min(size, _CHUNK))
            if not chunk:
                raise OSError(f"the replaced files of {self._name} were cut off")
            start += len(chunk)
            size -= len(chunk)
            yield chunk
