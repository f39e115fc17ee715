"""What an image comes in: named files in a directory or a tar, each of which can be read in place.

The names in a tar, and links among its members, are the archive's alone: none leads to a file of the host.
"""

from __future__ import annotations

import errno
import io
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
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import BLOCK
from layerstore_core.tar.scanner import TarScanner

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Members that an archive may have, and the memory that the index of them may take, in bytes.
MAX_MEMBERS: Final = 500_000
MAX_INDEX: Final = 64 << 20
#: What a member takes besides its names: an entry of a dictionary, a pair, two numbers.
_MEMBER: Final = 250
#: The kernel's limit for a path, in bytes.
MAX_NAME: Final = 4095
#: Links followed for one name: the kernel's limit.
_MAX_LINKS: Final = 40
#: Headers are read in pieces of this size, in bytes.
_PIECE: Final = 16 << 10


class TooMuch(InvalidImage):
    """An archive has more of something than is ever looked at; nothing of it is loaded."""


class Container(Protocol):
    """Named files."""

    #: What to call it in messages.
    name: str

    def __contains__(self, path: str, /) -> bool:
        """Whether there is a file of this name."""

    def size(self, path: str, /) -> int:
        """A file's size in bytes.

        Raises:
            InvalidImage: there is no such regular file.
        """

    def open(self, path: str, /) -> BinaryIO:
        """Open a file at its start; several may be open, also in several threads.

        Raises:
            InvalidImage: there is no such regular file.
            OSError: it cannot be read.
        """

    def close(self) -> None:
        """Give back what is open."""


class Extent(io.RawIOBase):
    """A part of a file, as a file of its own that moves no other's position.

    Args:
        descriptor: the file; a duplicate of it is kept.
        start: where the part begins, in bytes.
        size: how many bytes it has.
        name: what to call it in messages.
    """

    def __init__(self, descriptor: int, start: int, size: int, name: str) -> None:
        self._duplicate = Descriptor(os.dup, descriptor)
        self._start = start
        self._size = size
        self._position = 0
        self.name = name

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to an offset within the part."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read some bytes; 0 at the end of the part.

        Raises:
            OSError: the file cannot be read, or has been cut off meanwhile.
        """
        target = memoryview(buffer).cast("B")[: max(0, self._size - self._position)]
        if not target:
            return 0
        count = os.preadv(self._duplicate.number, [target], self._start + self._position)
        if not count:
            raise OSError(f"{self.name} was cut off while it was read")
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
            # No links on the way: a layout that was unpacked from elsewhere must not point into this host.
            *parents, base = clean.split("/")
            for parent in parents:
                below = open_fd(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                left, directory = directory, below  # forgotten before it is closed: see `descriptors`
                if left != top:
                    os.close(left)
            fd = open_fd(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            raise InvalidImage(f"{self.name}: {clean} is missing") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise InvalidImage(f"{self.name}: {clean} is a symbolic link, and those are not followed") from None
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
        return open(fd, "rb", buffering=0)

    def close(self) -> None:
        self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class TarContainer:
    """The members of an uncompressed tar in a file that can seek; only headers are read to find them.

    Args:
        file: the tar, from where it stands to its end; it belongs to the container from now on.
        name: what to call it in messages.
        spool: what fills the file, if it is not complete.

    Raises:
        InvalidImage: it is no tar, is cut off, larger than it may be, or has more members than can be kept in mind.
    """

    def __init__(self, file: BinaryIO, name: str, spool: Spool | None = None) -> None:
        self.name = name
        self._file = file
        self._spool = spool
        self._members: dict[str, tuple[int, int]] = {}
        #: Where links lead to, and of what else cannot be read, why.
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
                # The scanner never goes back or ahead of what it is given: one for each member skips the content.
                scanner = TarScanner(self._pieces(position))
                entry = scanner.next_entry()[1]
            except InvalidLayer as error:
                where = "" if error.offset is None else f" (byte offset {position + error.offset})"
                raise InvalidImage(f"{self.name}: not a sound tar: {error.reason}{where}") from None
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
                    f"{self.name}: the archive is cut off: {os.fsdecode(entry.name)} is to have {entry.stored_size} bytes"
                )
            if entry.type in (EntryType.GLOBAL, EntryType.VOLUME):
                continue
            try:
                name = _clean(os.fsdecode(entry.name), self.name)
            except InvalidImage:  # nothing is made by this name: it is nobody's, and keeps nothing else from being read
                continue
            memory += _MEMBER + sys.getsizeof(name) + len(entry.linkname)
            if memory > MAX_INDEX:
                raise TooMuch(f"{self.name}: the names in the archive take more than {MAX_INDEX >> 20} MiB")
            self._note(name, entry, place)
            if limit is not None and name in self._members:
                del self._members[name]
                self._unreadable[name] = f"has {entry.stored_size} bytes, more than {limit}"

    def _reaches(self, end: int, *, keep: bool) -> bool:
        return self._spool.fill(end, keep=keep) if self._spool else end <= os.fstat(self._file.fileno()).st_size

    def _pieces(self, position: int) -> Callable[[], bytes]:
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

    def _note(self, name: str, entry: TarEntry, start: int) -> None:
        """Note a member; it takes the place of an earlier one of the same name, as `tar -r` and `tar -x` have it."""
        for known in (self._members, self._links, self._unreadable):
            known.pop(name, None)
        if entry.type is EntryType.FILE:
            if entry.sparse is not None:
                self._unreadable[name] = "is stored as a sparse file, which an image's parts cannot be"
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
        # Devices and fifos are nobody's content: who asks for one is told that it is missing.

    def _resolve(self, path: str) -> str:
        name = _clean(path, self.name)
        for _ in range(_MAX_LINKS):
            if name in self._members or name in self._unreadable:
                return name
            # A link on the way may stand for a directory.
            ways = accumulate(name.split("/"), posixpath.join)
            link = next((way for way in ways if way in self._links), None)
            if link is None:
                return name
            name = posixpath.normpath(self._links[link] + name[len(link) :])
        raise InvalidImage(f"{self.name}: {path} is a link that leads round in a circle")

    def _find(self, path: str) -> tuple[int, int]:
        name = self._resolve(path)
        if name in self._unreadable:
            raise InvalidImage(f"{self.name}: {name} {self._unreadable[name]}")
        if name not in self._members:
            via = "" if name == _clean(path, self.name) else f", which {path} leads to,"
            raise InvalidImage(f"{self.name}: {name}{via} is missing")
        return self._members[name]


def _clean(path: str, where: str) -> str:
    """A member's name, relative and without `.`, also where it was written with a `/` in front; what would lead out is refused."""
    clean = posixpath.normpath(path.lstrip("/"))
    if clean == ".." or clean.startswith("../"):
        raise InvalidImage(f"{where}: the name {path!r} leads out of the image's files")
    try:
        if len(os.fsencode(clean)) > MAX_NAME or "\0" in clean:
            raise InvalidImage(f"{where}: {path[:100]!r} cannot be the name of a file")
    except UnicodeEncodeError:
        raise InvalidImage(f"{where}: {path[:100]!r} cannot be the name of a file") from None
    return clean


def open_container(source: BinaryIO | str | os.PathLike[str], *, spool_dir: Path, limits: Limits) -> Container:
    """Open what images come in.

    Args:
        source: the path of a tar or of a directory, or a binary file object with a tar, which stays open. A tar
            that is compressed, or that cannot seek, is written to an unnamed temporary file first.
        spool_dir: where that goes.
        limits: how much of it may be written there.

    Raises:
        InvalidImage: it is neither, or larger than it may be.
        OSError: it cannot be read.
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
