"""Where saved images go: an archive or a directory that appears whole or not at all, the same bytes every time."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from layerstore_core.archive.remove import remove_tree
from layerstore_core.errors import LayerStoreError

_BLOCK: Final = 512
_RECORD: Final = 20 * _BLOCK
_OCTAL_LIMIT: Final = 1 << 33


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
        file: where it goes; it can seek.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        start = self._file.tell()
        try:
            self._file.write(_header(path, size))
            _copy(path, size, chunks, self._file)
            self._file.write(bytes(-size % _BLOCK))
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise

    def finish(self) -> None:
        """Write the end of the archive."""
        position = self._file.tell() + 2 * _BLOCK
        self._file.write(bytes(2 * _BLOCK + -position % _RECORD))


class DirectoryOutput:
    """Files below a directory.

    Args:
        path: the directory, which is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        target = self._path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(target, "xb") as file:
                _copy(path, size, chunks, file)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


@contextmanager
def archive_at(path: Path, *, spool_dir: Path) -> Iterator[TarOutput]:
    """A tar that is at `path` once the block has ended well; otherwise what was there stays.

    Where there is a device or a pipe, it is written to when the archive is complete.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        with open(path, "wb") as target, tempfile.TemporaryFile(dir=spool_dir) as spool:
            output = TarOutput(spool)
            yield output
            output.finish()
            spool.seek(0)
            shutil.copyfileobj(spool, target, 1 << 20)
        return
    partial = path.parent / f".layerstore-{secrets.token_hex(8)}.part"
    try:
        with open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "w+b") as file:
            output = TarOutput(file)
            yield output
            output.finish()
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def directory_at(path: Path) -> Iterator[DirectoryOutput]:
    """A directory that is at `path` once the block has ended well. There is to be nothing, or an empty directory.

    Raises:
        FileExistsError: there is something.
        OSError: it cannot be written.
    """
    path = Path(os.path.realpath(path))
    if os.path.lexists(path) and not (path.is_dir() and not os.listdir(path)):
        raise FileExistsError(errno.EEXIST, "there is something already; name a new directory", str(path))
    partial = path.parent / f".layerstore-{secrets.token_hex(8)}.part"
    try:
        partial.mkdir(0o755)
        yield DirectoryOutput(partial)
        os.replace(partial, path)
    except BaseException:
        if partial.is_dir():
            remove_tree(str(partial))
        raise


def _copy(path: str, size: int, chunks: Iterable[bytes], file: BinaryIO) -> None:
    left = size
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            break
        file.write(chunk)
    if left:
        raise WrongSize(f"{path} is not {size} bytes long, as it should be")


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
