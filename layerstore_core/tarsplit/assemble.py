"""Assembly: the tar again, from its tar-split lines and the driver's files."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from layerstore_core.errors import IntegrityError
from layerstore_core.tarsplit.codec import FileEntry, Segment

if TYPE_CHECKING:
    from typing import BinaryIO

#: What the system says where a file or its directory has been removed or replaced since.
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
_CHUNK: Final = 1 << 20


class FileGetter(Protocol):
    """What assembly needs of a driver: the regular files of one layer, by name."""

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

    for entry in entries:
        if isinstance(entry, Segment):
            if entry.data:
                yield entry.data
        elif entry.size:
            left, crc = entry.size, None
            with _open(files, entry.name) as file:
                while left and (chunk := file.read(min(left, _CHUNK))):
                    left -= len(chunk)
                    crc = crc64.go_iso(chunk, crc)
                    yield chunk
                if left or file.read(1):
                    raise _changed(entry.name, f"its size is not {entry.size} bytes any more")
            if crc != entry.crc:
                raise _changed(entry.name, "its checksum differs")


def _open(files: FileGetter, name: bytes) -> BinaryIO:
    try:
        return files.open(name)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        raise _changed(name, error.strerror or "it cannot be opened") from error


def _changed(name: bytes, how: str) -> IntegrityError:
    shown = name.decode("utf-8", "backslashreplace")
    return IntegrityError(
        f"the layer's file {shown!r} is not what was registered: {how}; "
        "run `layerstore check`, and register the layer again from its source"
    )
