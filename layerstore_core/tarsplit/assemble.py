"""Assembly: the tar again, from its tar-split lines and the driver's files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from layerstore_core.errors import IntegrityError
from layerstore_core.tarsplit.codec import FileEntry, Segment

if TYPE_CHECKING:
    from typing import BinaryIO

#: What the system says where a file or its directory has been removed or replaced since.
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
_CHUNK: Final = 1 << 20
_SIZE_DIFFERS: Final = "its size is not {} bytes any more"


class FileGetter(Protocol):
    """What assembly needs of a driver: the regular files of one layer, by name.

    A getter may also have `open_fd(name) -> int`, which opens as `open` does and gives a descriptor: this is faster.
    """

    def open(self, name: bytes) -> BinaryIO:
        """Open a file for reading.

        Raises:
            OSError: there is no such regular file.
        """


def assemble(entries: Iterable[Segment | FileEntry], files: FileGetter) -> Iterator[bytes]:
    """Put a tar together.

    Args:
        entries: what the tar-split lines say.
        files: the layer's files.

    Yields:
        The bytes of the tar, in chunks of any length but 0.

    Raises:
        IntegrityError: a file is missing, or is not what it was; the message names it.
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
        if open_fd is not None and size <= _CHUNK:
            content = _read_small(open_fd, name, size)
            if crc64.go_iso(content) != expected:
                raise _changed(name, "its checksum differs")
            yield content
            continue
        left, crc = size, None
        with _open(files, name) as file:
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                crc = crc64.go_iso(chunk, crc)
                yield chunk
            if left or file.read(1):
                raise _changed(name, _SIZE_DIFFERS.format(size))
        if crc != expected:
            raise _changed(name, "its checksum differs")


def _read_small(open_fd: Callable[[bytes], int], name: bytes, size: int) -> bytes:
    """The content of a file that is to be `size` bytes long, in as few calls as can be."""
    try:
        fd = open_fd(name)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        raise _missing(name, error) from error
    try:
        content = os.read(fd, size + 1)
        while len(content) < size and (more := os.read(fd, size + 1 - len(content))):
            content += more
    finally:
        os.close(fd)
    if len(content) != size:
        raise _changed(name, _SIZE_DIFFERS.format(size))
    return content


def _open(files: FileGetter, name: bytes) -> BinaryIO:
    try:
        return files.open(name)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        raise _missing(name, error) from error


def _missing(name: bytes, error: OSError) -> IntegrityError:
    return _changed(name, error.strerror or "it cannot be opened")


def _changed(name: bytes, how: str) -> IntegrityError:
    shown = name.decode("utf-8", "backslashreplace")
    return IntegrityError(
        f"the layer's file {shown!r} is not what was registered: {how}; "
        "run `layerstore check`, and register the layer again from its source"
    )
