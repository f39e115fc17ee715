"""Assembly of a tar from its tar-split lines and the driver's files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from layerstore_core.tarsplit.codec import FileEntry, Segment
from layerstore_core.tarsplit.read_files import CHECKSUM_DIFFERS, SIZE_DIFFERS, changed_error, open_or_raise

if TYPE_CHECKING:
    from typing import BinaryIO

#: The most bytes that are read at a time; a file up to this size is read in one piece.
CHUNK: Final = 1 << 20


class FileGetter(Protocol):
    """Getter of one layer's regular files, by name: what assembly needs of a driver.

    A getter that also has `open_fd` is a `DescriptorGetter`, which is faster.
    """

    def open(self, name: bytes) -> BinaryIO:
        """Open a file for reading.

        Raises:
            OSError: there is no such regular file.
        """


@runtime_checkable
class DescriptorGetter(FileGetter, Protocol):
    """Getter that opens files without making Python's file objects."""

    def open_fd(self, name: bytes) -> int:
        """Do what `open` does, but return a descriptor, which the caller has to close."""


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

    open_fd = getattr(files, "open_fd", None)
    for entry in entries:
        if isinstance(entry, Segment):
            if entry.data:
                yield entry.data
            continue
        name, size, expected = entry
        if not size:
            continue
        if open_fd is not None and size <= CHUNK:
            content = _read_small(open_fd, name, size)
            if crc64.go_iso(content) != expected:
                raise changed_error(name, CHECKSUM_DIFFERS)
            yield content
            continue
        left, crc = size, None
        with open_or_raise(files.open, name) as file:
            while left and (chunk := file.read(min(left, CHUNK))):
                left -= len(chunk)
                crc = crc64.go_iso(chunk, crc)
                yield chunk
            if left or file.read(1):
                raise changed_error(name, SIZE_DIFFERS.format(size))
        if crc != expected:
            raise changed_error(name, CHECKSUM_DIFFERS)


def _read_small(open_fd: Callable[[bytes], int], name: bytes, size: int) -> bytes:
    """Return the content of a file, which must be `size` bytes long, in as few calls as possible."""
    fd = open_or_raise(open_fd, name)
    try:
        content = os.read(fd, size + 1)
        while len(content) < size and (more := os.read(fd, size + 1 - len(content))):
            content += more
    finally:
        os.close(fd)
    if len(content) != size:
        raise changed_error(name, SIZE_DIFFERS.format(size))
    return content
