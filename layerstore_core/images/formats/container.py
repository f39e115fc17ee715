"""Containers of images: named files in a directory or a tar, which are read in place.

Names and links in a tar mean other members of the tar. They never lead to a file of the host.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, Self, cast

from layerstore_core.base.descriptors import Descriptor, open_fd
from layerstore_core.base.limits import Limits
from layerstore_core.errors import InvalidImage, InvalidLayer
from layerstore_core.images.formats.spool import Spool
from layerstore_core.streams.compression import MAGIC_SIZE, detect
from layerstore_core.streams.positioned import PositionedFile
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import BLOCK
from layerstore_core.tar.scanner import TarScanner

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: The most members that an archive may have, and the memory that their index may take, in bytes.
MAX_MEMBERS: Final = 500_000
MAX_INDEX: Final = 64 << 20
#: The memory that a member takes besides its names, in bytes: an entry of a dictionary, a pair, two numbers.
_MEMBER: Final = 250
#: The kernel's limit for a path, in bytes.
MAX_NAME: Final = 4095
#: The most links that are followed for one name: the kernel's limit.
_MAX_LINKS: Final = 40
#: Headers are read in pieces of this size, in bytes.
_PIECE: Final = 16 << 10


class TooMuch(InvalidImage):
    """An archive exceeds a limit, such as the number of its images; no image is loaded from it."""


class Container(Protocol):
    """A set of named files."""

    #: The name of the container in messages.
    name: str

    def __contains__(self, path: str, /) -> bool:
        """Return whether there is a file with this name."""

    def size(self, path: str, /) -> int:
        """Return a file's size in bytes.

        Raises:
            InvalidImage: there is no such regular file.
        """

    def open(self, path: str, /) -> BinaryIO:
        """Open a file at its start. Several files may be open at once, also in several threads.

        Raises:
            InvalidImage: there is no such regular file.
            OSError: it cannot be read.
        """

    def close(self) -> None:
        """Close the container."""


class Extent(PositionedFile):
    """A part of a file as a separate file with its own position.

    Args:
        descriptor: the file. This object keeps a duplicate of the descriptor.
        start: the offset of the part in bytes.
        size: the size of the part in bytes.
        name: the name of the part in messages.
    """

    def __init__(self, descriptor: int, start: int, size: int, name: str) -> None:
        super().__init__(size, name)
        self._duplicate = Descriptor(os.dup, descriptor)
        self._start = start

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some bytes into a buffer; return their number, which is 0 at the end of the part.

        Raises:
            OSError: the file cannot be read, or was truncated meanwhile.
        """
        target = memoryview(buffer).cast("B")[: max(0, self._size - self._position)]
        if not target:
            return 0
        count = os.preadv(self._duplicate.number, [target], self._start + self._position)
        if not count:
            raise OSError(f"{self.name}: the file was cut off while it was read")
        self._position += count
        return count

    def close(self) -> None:
        """Close the part; the file stays open."""
        self._duplicate.close()
        super().close()


class DirectoryContainer:
    """The files below a directory.

    Args:
        path: the directory.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._directory = Descriptor(os.open, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __contains__(self, path: str, /) -> bool:
        try:
            self.size(path)
        except InvalidImage:
            return False
        return True

    def size(self, path: str, /) -> int:
        with self.open(path) as file:
            return os.fstat(file.fileno()).st_size

    def open(self, path: str, /) -> BinaryIO:
        clean = _clean(path, self.name)
        top = directory = self._directory.number
        try:
            # Follow no links: a layout from another machine must not lead to files of this host.
            *parents, base = clean.split("/")
            for parent in parents:
                child = open_fd(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                previous, directory = (
                    directory,
                    child,
                )  # first replace the number, then close it: see `base.descriptors`
                if previous != top:
                    os.close(previous)
            fd = open_fd(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            raise InvalidImage(f"{self.name}: {clean} is missing") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise InvalidImage(
                    f"{self.name}: {clean} is a symbolic link; links in a layout are not followed"
                ) from None
            if error.errno == errno.ENAMETOOLONG:
                raise InvalidImage(f"{self.name}: {clean[:100]!r} cannot be the name of a file") from None
            error.filename = posixpath.join(self.name, clean)
            raise
        finally:
            if directory != top:
                os.close(directory)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise InvalidImage(f"{self.name}: {clean} is not a regular file")
        # By its path, so that errors name it; it is not opened by that again.
        return open(posixpath.join(self.name, clean), "rb", buffering=0, opener=lambda *_: fd)

    def close(self) -> None:
        self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class TarContainer:
    """The members of an uncompressed tar in a file that can seek. To find them, only the headers are read.

    Args:
        file: the tar, from the current position to the end. The container closes it.
        name: the name of the tar in messages.
        spool: fills the file on demand; `None` if the file is complete.

    Raises:
        InvalidImage: the file is not a tar or is cut off, is larger than the limit, or has too many members.
    """

    def __init__(self, file: BinaryIO, name: str, spool: Spool | None = None) -> None:
        self.name = name
        self._file = file
        self._spool = spool
        self._members: dict[str, tuple[int, int]] = {}
        #: The targets of links; and the reason for each other member that cannot be read.
        self._links: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}
        try:
            self._index(file.tell())
            if spool is not None:
                spool.finish()
        except BaseException:
            file.close()
            raise

    def __contains__(self, path: str, /) -> bool:
        with suppress(InvalidImage):
            return self._resolve(path) in self._members
        return False

    def size(self, path: str, /) -> int:
        return self._find(path)[1]

    def open(self, path: str, /) -> BinaryIO:
        start, size = self._find(path)
        return cast("BinaryIO", Extent(self._file.fileno(), start, size, f"{self.name}: {path}"))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _index(self, position: int) -> None:
        count, memory = 0, 0
        while True:
            try:
                # A scanner reads its input in order, without seeking. A new one for each member skips the content.
                scanner = TarScanner(self._pieces(position))
                entry = scanner.next_entry()[1]
            except InvalidLayer as error:
                where = "" if error.offset is None else f" (byte offset {position + error.offset})"
                raise InvalidImage(f"{self.name}: not a valid tar: {error.reason}{where}") from None
            if entry is None:
                return
            count += 1
            if count > MAX_MEMBERS:
                raise InvalidImage(f"{self.name}: the archive has more than {MAX_MEMBERS} members")
            start = position + scanner.offset
            position = start + entry.stored_size + -entry.stored_size % BLOCK
            place = start - (self._spool.dropped if self._spool else 0)
            limit = self._spool.too_large(entry.stored_size) if self._spool else None
            if not self._reaches(start + entry.stored_size, keep=limit is None):
                raise InvalidImage(
                    f"{self.name}: the archive is cut off: "
                    f"{os.fsdecode(entry.name)} should have {entry.stored_size} bytes"
                )
            if entry.type in (EntryType.GLOBAL, EntryType.VOLUME):
                continue
            try:
                name = _clean(os.fsdecode(entry.name), self.name)
            except InvalidImage:  # skip a member whose name is invalid: the other members can still be read
                continue
            memory += _MEMBER + sys.getsizeof(name) + len(entry.linkname)
            if memory > MAX_INDEX:
                raise TooMuch(f"{self.name}: the names in the archive take more than {MAX_INDEX >> 20} MiB")
            self._add(name, entry, place)
            if limit is not None and name in self._members:
                del self._members[name]
                self._unreadable[name] = f"has {entry.stored_size} bytes, more than {limit}"

    def _reaches(self, end: int, *, keep: bool) -> bool:
        """Return whether the archive has bytes up to the offset `end`; spool them if necessary."""
        return self._spool.fill(end, keep=keep) if self._spool else end <= os.fstat(self._file.fileno()).st_size

    def _pieces(self, position: int) -> Callable[[], bytes]:
        """Return a function that reads the archive piece by piece, from an offset on."""

        def read() -> bytes:
            nonlocal position
            place = position
            if self._spool is not None:
                self._spool.fill(position + _PIECE)
                place -= self._spool.dropped
            data = os.pread(self._file.fileno(), _PIECE, place)
            position += len(data)
            return data

        return read

    def _add(self, name: str, entry: TarEntry, start: int) -> None:
        """Add a member. It replaces an earlier one of the same name, as with `tar -r` and `tar -x`."""
        for known in (self._members, self._links, self._unreadable):
            known.pop(name, None)
        if entry.type is EntryType.FILE:
            if entry.sparse is not None:
                self._unreadable[name] = "is stored as a sparse file, which is not allowed in an image archive"
            else:
                self._members[name] = (start, entry.stored_size)
        elif entry.type in (EntryType.SYMLINK, EntryType.HARDLINK):
            target = os.fsdecode(entry.linkname)
            if entry.type is EntryType.SYMLINK:
                if target.startswith("/"):
                    self._unreadable[name] = f"is a link out of the archive, to {target}"
                    return
                target = posixpath.join(posixpath.dirname(name), target)
            try:
                self._links[name] = _clean(target, self.name)
            except InvalidImage:
                self._unreadable[name] = f"is a link that leads out of the archive, to {target}"
        # Devices and fifos have no content: `open` reports them as missing.

    def _resolve(self, path: str) -> str:
        """Follow the links in a path; return the name that they lead to, which may be missing."""
        name = _clean(path, self.name)
        for _ in range(_MAX_LINKS):
            if name in self._members or name in self._unreadable:
                return name
            # A parent directory may be a link too.
            parents = accumulate(name.split("/"), posixpath.join)
            link = next((parent for parent in parents if parent in self._links), None)
            if link is None:
                return name
            name = posixpath.normpath(self._links[link] + name[len(link) :])
        raise InvalidImage(f"{self.name}: the links at {path} form a loop")

    def _find(self, path: str) -> tuple[int, int]:
        name = self._resolve(path)
        if name in self._unreadable:
            raise InvalidImage(f"{self.name}: {name} {self._unreadable[name]}")
        if name not in self._members:
            via = "" if name == _clean(path, self.name) else f", which {path} leads to,"
            raise InvalidImage(f"{self.name}: {name}{via} is missing")
        return self._members[name]


def _clean(path: str, where: str) -> str:
    """Return a member's name as a relative path without `.` and without a `/` in front.

    Raises:
        InvalidImage: the name leads out of the container, or cannot be the name of a file.
    """
    clean = posixpath.normpath(path.lstrip("/"))
    if clean == ".." or clean.startswith("../"):
        raise InvalidImage(f"{where}: the name {path!r} leads out of the archive or layout")
    try:
        if len(os.fsencode(clean)) > MAX_NAME or "\0" in clean:
            raise InvalidImage(f"{where}: {path[:100]!r} cannot be the name of a file")
    except UnicodeEncodeError:
        raise InvalidImage(f"{where}: {path[:100]!r} cannot be the name of a file") from None
    return clean


def open_container(source: BinaryIO | str | os.PathLike[str], *, spool_dir: Path, limits: Limits) -> Container:
    """Open an archive or a layout.

    Args:
        source: the path of a tar or of a directory, or a binary file object with a tar, which stays open. A tar
            that is compressed, or that cannot seek, is written to an unnamed temporary file first.
        spool_dir: the directory of the temporary file.
        limits: the limits on its size.

    Raises:
        InvalidImage: the source is not a tar, or is larger than a limit.
        OSError: the source cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        if os.path.isdir(source):
            return DirectoryContainer(Path(source))
        name = os.fspath(source)
        file = open(source, "rb", buffering=0)  # noqa: SIM115
    else:
        name = str(getattr(source, "name", "the stream"))
        if not _is_plain_file(source):
            return _spooled(source.read, spool_dir, name, limits)
        file = open(os.dup(source.fileno()), "rb", buffering=0)  # noqa: SIM115
        file.seek(source.tell())
    try:
        if not _is_plain_file(file) or detect(os.pread(file.fileno(), MAGIC_SIZE, file.tell())) is not None:
            with file:
                return _spooled(file.read, spool_dir, name, limits)
    except BaseException:
        file.close()
        raise
    return TarContainer(cast("BinaryIO", file), name)


def _is_plain_file(file: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, AttributeError):
        return False


def _spooled(read: Callable[[int], bytes], spool_dir: Path, name: str, limits: Limits) -> TarContainer:
    spool = Spool(read, spool_dir, name, limits)
    try:
        return TarContainer(spool.file, name, spool)
    finally:
        spool.stop()
