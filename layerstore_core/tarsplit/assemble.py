"""Assembly of a tar from its tar-split lines and the driver's files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from layerstore_core.tarsplit.changed import CHECKSUM_DIFFERS, SIZE_DIFFERS, changed_error, open_or_raise
from layerstore_core.tarsplit.codec import FileEntry, Segment

if TYPE_CHECKING:
    from typing import BinaryIO

#: The most bytes that are read at a time.
CHUNK: Final = 1 << 20


class FileGetter(Protocol):
    """Getter of one layer's regular files, by name: what assembly needs of a driver."""

    def open(self, name: bytes) -> BinaryIO:
        """Open a file for reading.

        Raises:
            OSError: there is no such regular file.
        """


def assemble(entries: Iterable[Segment | FileEntry], files: FileGetter) -> Iterator[bytes]:
    """Assemble a tar.

    Args:
        entries: the decoded tar-split lines.
        files: the layer's files.

    Yields:
        The bytes of the tar, in chunks of any length but 0.

    Raises:
        IntegrityError: a file is missing, or is not the registered one; the message names it.
    """
    from fastcrc import crc64

    for entry in entries:
        if isinstance(entry, Segment):
            if entry.data:
                yield entry.data
            continue
        name, left, expected = entry
        if not left:
            continue
        crc = None
        with open_or_raise(files.open, name) as file:
            while left and (chunk := file.read(min(left, CHUNK))):
                left -= len(chunk)
                crc = crc64.go_iso(chunk, crc)
                yield chunk
            if left or file.read(1):
                raise changed_error(name, SIZE_DIFFERS.format(entry.size))
        if crc != expected:
            raise changed_error(name, CHECKSUM_DIFFERS)
