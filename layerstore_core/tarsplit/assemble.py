"""Assembly: the tar again, from its tar-split lines and the driver's files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, runtime_checkable

from layerstore_core.errors import IntegrityError
from layerstore_core.tarsplit.codec import FileEntry, Piece, Segment

if TYPE_CHECKING:
    from typing import BinaryIO

_Opened = TypeVar("_Opened")

#: What the system says where a file or its directory has been removed or replaced since.
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
_CHUNK: Final = 1 << 20
#: What `assemble_blocks` has given stays what it is until so many more chunks are asked for.
BLOCKS_KEPT: Final = 6
_SIZE_DIFFERS: Final = "its size is not {} bytes any more"


class FileGetter(Protocol):
    """What assembly needs of a driver: the regular files of one layer, by name.

    One that has `open_fd`, too, is a `DescriptorGetter`: this is faster.
    """

    def open(self, name: bytes) -> BinaryIO:
        """Open a file for reading.

        Raises:
            OSError: there is no such regular file.
        """


@runtime_checkable
class DescriptorGetter(FileGetter, Protocol):
    """A `FileGetter` that opens files without making Python's file objects."""

    def open_fd(self, name: bytes) -> int:
        """As `open`, but give a descriptor, which is the caller's to close."""


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
        with _opened(files.open, name) as file:
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                crc = crc64.go_iso(chunk, crc)
                yield chunk
            if left or file.read(1):
                raise _changed(name, _SIZE_DIFFERS.format(size))
        if crc != expected:
            raise _changed(name, "its checksum differs")


def assemble_blocks(batches: Iterable[Iterable[Piece]], files: DescriptorGetter) -> Iterator[bytes | memoryview]:
    """What `assemble` gives, with fewer calls for each file: files are read to where they stand in the tar.

    Args:
        batches: what the tar-split lines say, as `decode_blocks` gives it.
        files: the layer's files.

    Yields:
        The bytes of the tar, in chunks of about a MiB. The memory of a chunk is used again when so many as
        `BLOCKS_KEPT` more are asked for.

    Raises:
        IntegrityError: as `assemble`.
    """
    from fastcrc import crc64

    open_fd = files.open_fd
    checksum, readv, close = crc64.go_iso, os.readv, os.close
    # Each has room for what it is not yet given out with, a segment, a file, and the byte after it.
    buffers = [bytearray(3 * _CHUNK + 1) for _ in range(BLOCKS_KEPT)]
    number = filled = 0
    buffer, view = buffers[0], memoryview(buffers[0])
    for batch in batches:
        for segment, name, size, expected in batch:
            if size > _CHUNK or len(segment) > _CHUNK:
                if filled:
                    yield view[:filled]
                    number, filled = (number + 1) % BLOCKS_KEPT, 0
                    buffer, view = buffers[number], memoryview(buffers[number])
                yield from assemble([Segment(segment), FileEntry(name, size, expected)], files)
                continue
            begin = filled + len(segment)
            buffer[filled:begin] = segment
            filled = begin
            if size:
                filled += size
                fd = _opened(open_fd, name)
                try:
                    # A byte more than it may have.
                    got = readv(fd, (view[begin : filled + 1],))
                    while got < size and (more := readv(fd, (view[begin + got : filled + 1],))):
                        got += more
                finally:
                    close(fd)
                if got != size:
                    raise _changed(name, _SIZE_DIFFERS.format(size))
                if checksum(view[begin:filled]) != expected:
                    raise _changed(name, "its checksum differs")
            if filled >= _CHUNK:
                yield view[:filled]
                number, filled = (number + 1) % BLOCKS_KEPT, 0
                buffer, view = buffers[number], memoryview(buffers[number])
    if filled:
        yield view[:filled]


def _read_small(open_fd: Callable[[bytes], int], name: bytes, size: int) -> bytes:
    """The content of a file that is to be `size` bytes long, in as few calls as can be."""
    fd = _opened(open_fd, name)
    try:
        content = os.read(fd, size + 1)
        while len(content) < size and (more := os.read(fd, size + 1 - len(content))):
            content += more
    finally:
        os.close(fd)
    if len(content) != size:
        raise _changed(name, _SIZE_DIFFERS.format(size))
    return content


def _opened(open_file: Callable[[bytes], _Opened], name: bytes) -> _Opened:
    """What a getter's `open` or `open_fd` gives; a file that is not there any more has been changed."""
    try:
        return open_file(name)
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
