"""The targets of saved images: a tar or a directory, which appears whole or not at all, with reproducible bytes."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, Protocol

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.replace_file import OutputFile, naming, replacing
from layerstore_core.errors import LayerStoreError
from layerstore_core.tree.remove import remove_tree

_BLOCK: Final = 512
_RECORD: Final = 20 * _BLOCK
_OCTAL_LIMIT: Final = 1 << 33
_CHUNK: Final = 1 << 20


class BinaryWriter(Protocol):
    """An object that an archive can be written to, such as a binary file."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Write some of `data` and return the number of bytes written, or write all of it and return nothing."""


class WrongSize(LayerStoreError):
    """A file's content is shorter or longer than its announced size."""


class Output(Protocol):
    """A target for named files, each of which is written once."""

    def add(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        """Write a file. If that fails, the output is as it was before.

        Args:
            path: the file's name, at most 100 ASCII characters.
            size: the file's size in bytes.
            chunks: the file's content. An exception raised by the iterator passes through.

        Raises:
            WrongSize: the content has fewer or more bytes.
            OSError: the file cannot be written.
        """


class TarOutput:
    """A tar in the ustar format. All members have the same owner, mode and time, so that the bytes do not vary.

    Args:
        file: the file to write to.
    """

    def __init__(self, file: OutputFile) -> None:
        self._file = file

    def add(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        start = self._file.position
        try:
            self._file.write(_header(path, size))
            _copy(path, size, chunks, self._file)
            self._file.write(bytes(-size % _BLOCK))
        except BaseException:
            self._file.truncate(start)
            raise

    def finish(self) -> None:
        """Write the end of the archive."""
        position = self._file.position + 2 * _BLOCK
        self._file.write(bytes(2 * _BLOCK + -position % _RECORD))


class DirectoryOutput:
    """Files below a directory.

    Args:
        path: the directory, which exists.
        name: the user's name for it, for messages.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    def add(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        target, name = self._path / path, os.path.join(self._name, path)
        with naming(name):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with OutputFile.new(name, str(target)) as file:
                _copy(path, size, chunks, file)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


@contextmanager
def archive_at(target: str | BinaryWriter, *, spool_dir: Path) -> Iterator[TarOutput]:
    """Write a tar in a `with` block. It replaces `target` if the block ends well; otherwise the old file stays.

    A device, a pipe or a binary file object is written when the archive is complete.

    Args:
        target: a path, or a file object.
        spool_dir: the directory for a temporary file, which a device, a pipe or a file object needs.

    Raises:
        OSError: the target cannot be written.
    """
    with nullcontext(target) if not isinstance(target, str) else replacing(target) as file:
        if isinstance(file, OutputFile) and not file.may_block:
            output = TarOutput(file)
            yield output
            output.finish()
            return
        with tempfile.TemporaryFile(dir=spool_dir) as spool:
            opened = Descriptor(os.dup, spool.fileno())
            with OutputFile(f"{spool_dir} (a temporary file there)", opened, may_block=False) as temporary:
                output = TarOutput(temporary)
                yield output
                output.finish()
            spool.seek(0)
            while chunk := spool.read(_CHUNK):
                _write_all(file, chunk)


@contextmanager
def directory_at(name: str) -> Iterator[DirectoryOutput]:
    """Write a directory in a `with` block. It appears at `name` if the block ends well.

    Raises:
        FileExistsError: there is already a file, or a directory that is not empty.
        OSError: the directory cannot be written.
    """
    path = Path(os.path.realpath(name))
    if os.path.lexists(path) and not (path.is_dir() and not os.listdir(path)):
        raise FileExistsError(
            errno.EEXIST, "it exists, and is not an empty directory; give the name of a new directory", name
        )
    partial = path.parent / f".layerstore-{secrets.token_hex(8)}.part"
    try:
        with naming(name):
            partial.mkdir(0o755)
        yield DirectoryOutput(partial, name)
        with naming(name):
            os.replace(partial, path)
    except BaseException:
        if partial.is_dir():
            remove_tree(str(partial))
        raise


def _copy(path: str, size: int, chunks: Iterable[bytes], file: OutputFile) -> None:
    left = size
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            break
        file.write(chunk)
    if left:
        raise WrongSize(f"{path} should have {size} bytes, and has fewer or more")


def _write_all(file: BinaryWriter, data: bytes) -> None:
    left = memoryview(data)
    while left:
        # Python's files return the number of bytes written; other objects write all of them.
        count = file.write(left)
        left = left[count:] if isinstance(count, int) else left[len(left) :]


def _header(path: str, size: int) -> bytes:
    length = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    fields = (
        path.encode("ascii").ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        length,
        b"00000000000\0",
        b" " * 8,
        b"0".ljust(101, b"\0"),
        b"ustar\x0000".ljust(72, b"\0"),
        b"0000000\0" * 2,
    )
    block = b"".join(fields).ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
