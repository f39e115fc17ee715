"""Where saved images go: an archive or a directory that appears whole or not at all, the same bytes every time."""

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
    """What an archive can be written to: a binary file, for example."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Write some of `data`, and return how many bytes, or write all, and return nothing."""


class WrongSize(LayerStoreError):
    """What was written is not as long as it was said to be."""


class Output(Protocol):
    """A place for named files, each written once."""

    def add(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        """Write a file. Where that fails, the output is as it was before.

        Args:
            path: its name, at most 100 ASCII characters.
            size: how many bytes it will have.
            chunks: its content; an error from there passes through.

        Raises:
            WrongSize: there are fewer or more bytes.
            OSError: it cannot be written.
        """


class TarOutput:
    """A tar in the ustar format; owners, modes and times are the same in every one.

    Args:
        file: where it goes.
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
        path: the directory, which is there.
        name: what the user has called it.
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
    """A tar that is at `target` once the block has ended well; otherwise what was there stays.

    A device, a pipe or a binary file object is written to when the archive is complete.

    Raises:
        OSError: it cannot be written.
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
    """A directory that is at `name` once the block has ended well. There is to be nothing, or an empty directory.

    Raises:
        FileExistsError: there is something.
        OSError: it cannot be written.
    """
    path = Path(os.path.realpath(name))
    if os.path.lexists(path) and not (path.is_dir() and not os.listdir(path)):
        raise FileExistsError(errno.EEXIST, "there is something already; name a new directory", name)
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
        raise WrongSize(f"{path} is not {size} bytes long, as it should be")


def _write_all(file: BinaryWriter, data: bytes) -> None:
    left = memoryview(data)
    while left:
        # Files of Python's say how much they took; others take all.
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
