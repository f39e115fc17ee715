"""The contents of files that become part of a layer: bytes, files, files of a directory tree, parts of a tar.

A file is read when the layer is, in pieces. It must not change between the two: that is an error.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import BinaryIO, Final, NoReturn, Protocol, Self

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.replace_file import naming
from layerstore_core.tree.extents import change_stamp, file_content, zeros
from layerstore_core.tree.walk import TreeWalk

_CHUNK: Final = 1 << 20
# O_NONBLOCK: if the file was replaced by a fifo meanwhile, opening it must not wait for a writer.
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Walks:
    """The directory trees that one reading of a layer is in. A context manager, which closes them."""

    def __init__(self) -> None:
        self._walks: dict[str, TreeWalk] = {}
        self._stack = ExitStack()

    def of(self, root: str) -> TreeWalk:
        """Return the walk through the tree at `root`."""
        walk = self._walks.get(root)
        if walk is None:
            walk = self._walks[root] = self._stack.enter_context(TreeWalk(root))
        return walk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


class Content(Protocol):
    """The content of one file."""

    @property
    def size(self) -> int:
        """The size in bytes."""

    def read(self, walks: Walks) -> Iterator[bytes]:
        """Yield the content: `size` bytes.

        Raises:
            OSError: it cannot be read; with `ESTALE` if the file was changed meanwhile.
        """


class GivenBytes:
    """A content that is given as bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, walks: Walks) -> Iterator[bytes]:
        """Yield the bytes."""
        yield self._data


class SourceFile:
    """A regular file, with the status that it had when it was added.

    Args:
        path: its path.
        status: its status.
    """

    def __init__(self, path: str, status: os.stat_result) -> None:
        self._path = path
        self._status = status
        self.size = status.st_size

    def read(self, walks: Walks) -> Iterator[bytes]:
        """Yield the content of the file; errors as of `Content.read`."""
        with Descriptor(os.open, self._path, _READ) as fd:
            yield from _unchanged(fd, self._status, self._path)


class TreeFile:
    """A regular file of a directory tree, which is opened name by name, never through a symbolic link.

    Args:
        root: the top of the tree.
        path: the file's path below it.
        status: its status when it was added.
    """

    __slots__ = ("_path", "_root", "_status", "size")

    def __init__(self, root: str, path: bytes, status: os.stat_result) -> None:
        self._root = root
        self._path = path
        self._status = status
        self.size = status.st_size

    def read(self, walks: Walks) -> Iterator[bytes]:
        """Yield the content of the file; errors as of `Content.read`."""
        directory, _, base = self._path.rpartition(b"/")
        walk = walks.of(self._root)
        walk.enter(directory)
        fd = Descriptor(walk.open_file, base)
        with fd as number:
            yield from _unchanged(number, self._status, os.path.join(self._root, os.fsdecode(self._path)))


class TarPart:
    """The payload of a tar's entry, in an uncompressed file.

    Args:
        file: the open file.
        offset: where the payload begins in the file.
        stored: how many bytes the payload has.
        size: the size of the entry's file.
        sparse: the data regions of a sparse file; `None` for a file without holes.
    """

    __slots__ = ("_file", "_offset", "_sparse", "_stored", "size")

    def __init__(
        self, file: BinaryIO, offset: int, stored: int, size: int, sparse: Sequence[tuple[int, int]] | None
    ) -> None:
        self._file = file
        self._offset = offset
        self._stored = stored
        self._sparse = sparse
        self.size = size

    def read(self, walks: Walks) -> Iterator[bytes]:
        """Yield the content; errors as of `Content.read`."""
        at, end = self._offset, 0
        for start, length in ((0, self._stored),) if self._sparse is None else self._sparse:
            yield from zeros(start - end)
            end = start + length
            while length:
                chunk = os.pread(self._file.fileno(), min(length, _CHUNK), at)
                if not chunk:
                    _changed(str(self._file.name))
                yield chunk
                at += len(chunk)
                length -= len(chunk)
        yield from zeros(self.size - end)


def _unchanged(fd: int, expected: os.stat_result, path: str) -> Iterator[bytes]:
    """Yield the content of an open file, which must be the one that `expected` is of, before and after."""
    status = os.fstat(fd)
    if not (stat.S_ISREG(status.st_mode) and _same(status, expected)):
        _changed(path)
    chunks = file_content(fd, status)
    while True:
        with naming(path):
            chunk = next(chunks, None)
        if chunk is None:
            break
        if not chunk and status.st_size:
            _changed(path)
        yield chunk
    if not _same(os.fstat(fd), expected):
        _changed(path)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return os.path.samestat(one, other) and change_stamp(one) == change_stamp(other)


def _changed(path: str) -> NoReturn:
    raise OSError(errno.ESTALE, "it was changed while it was read; add it to the layer when nothing writes to it", path)
