"""Access to files and directories below a store's root without following links.

The owner of a root may be another user than the one who works in it. The owner may replace anything there by a link, at
any moment. So no file below a root is opened by its whole path. Each directory is opened relative to its parent
directory, with `O_NOFOLLOW`, and the operation on the last name is relative to the last directory. The path of the root
itself may go through links: users who can change these are trusted.

The functions take paths. A path that is not below a guarded root is used as it is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final, Self, cast

from layerstore_core.base.descriptors import Descriptor, open_fd, write_all
from layerstore_core.errors import BadRecord

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

#: The guarded roots: each by the path that `guard` got, the absolute path and the real path.
_roots: Final[set[str]] = set()

_PATH: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: if the file is a FIFO, opening it must not wait for the other side.
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Error numbers of open(2) if the file has another type.
_WRONG_TYPE: Final = (errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO)
_TYPES: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFREG: "a regular file",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_WHAT_TO_DO: Final = (
    "nothing else is accepted here, and no link below a store's root is followed; find out who put it there, and "
    "remove it or restore the original (a directory on another disk can be mounted here with mount --bind)"
)


def guard(root: AnyPath) -> None:
    """Guard a root: from now on, follow no link below it, whether it is reached by this path or by its real path."""
    path = _absolute(root)
    if path not in _roots:
        _roots.update((path, os.path.abspath(path), os.path.realpath(path)))


def open_directory(path: AnyPath | int, flags: int = 0) -> Descriptor:
    """Open a directory for reading.

    Args:
        path: the directory, or a descriptor of it.
        flags: more flags of open(2).

    Raises:
        BadRecord: the path, or a parent of it, is not a directory.
        OSError: the directory does not exist, or cannot be opened.
    """
    if isinstance(path, int):
        return Descriptor(os.open, ".", _DIRECTORY | flags, dir_fd=path)
    start, names = _split(path)
    if not names:
        return Descriptor(os.open, start, _DIRECTORY | flags)
    with _walk(start, names[:-1]) as parent_fd:
        return _open_in(parent_fd, names[-1], os.path.join(start, *names), _DIRECTORY | os.O_NOFOLLOW | flags)


def open_file(path: AnyPath, flags: int = os.O_RDONLY, mode: int = 0o600) -> Descriptor:
    """Open a regular file.

    Args:
        path: the file.
        flags: the flags of open(2), without `O_TRUNC`: it would take effect before the file is checked. See `write`.
        mode: the mode of the file, if it is made.

    Raises:
        BadRecord: the file is not a regular file; or it is to be written in place, and has other hard links, which may
            be outside of the root; or a parent of it is not a directory.
        OSError: the file cannot be opened.
    """
    with parent(path) as (parent_fd, name):
        return _open_regular(parent_fd, name, os.fsdecode(path), flags, mode)


def opener(path: str, flags: int) -> int:
    """Open a file as `open_file`, for the argument `opener` of `open`. New files get the mode 0644 less the umask."""
    return open_file(path, flags, 0o644).detach()


def read(path: AnyPath, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        BadRecord: the file is longer, or as from `open_file`.
        OSError: as from `open_file`.
    """
    with open_file(path) as fd:
        return _read_whole(fd, limit, os.fsdecode(path))


class Directory:
    """A directory that is opened once, so that many files in it are read quickly. One that is missing has no files.

    The files are those of the directory that had the path when it was opened.

    Args:
        path: the directory.

    Raises:
        BadRecord: the path, or a parent of it, is not a directory.
        OSError: it cannot be opened.
    """

    def __init__(self, path: AnyPath) -> None:
        self._path = os.fsdecode(path)
        self._opened: Descriptor | None = None
        try:
            self._opened = open_directory(path)
        except FileNotFoundError:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._opened is not None:
            self._opened.close()

    def names(self) -> list[str]:
        """Return the names in the directory, sorted."""
        return [] if self._opened is None else sorted(os.listdir(self._opened.number))

    def read(self, name: str, limit: int) -> bytes:
        """Read a regular file of at most `limit` bytes.

        Args:
            name: its path in the directory. None of the names in it may be a link.
            limit: the most bytes.

        Raises:
            BadRecord, OSError: as from the function `read`.
        """
        with self._parent(name) as (parent_fd, last, path), _open_regular(parent_fd, last, path) as fd:
            return _read_whole(fd, limit, path)

    def status(self, name: str) -> os.stat_result:
        """Return the status of a file; errors as from the function `status`."""
        with self._parent(name) as (parent_fd, last, path), _naming_path(path):
            return os.stat(last, dir_fd=parent_fd, follow_symlinks=False)

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str, str]]:
        """Open the directory that a file is in; yield it, the file's last name, and its whole path."""
        if self._opened is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.path.join(self._path, name))
        *directories, last = name.split("/")
        if last == ".." or ".." in directories:
            raise BadRecord(os.path.join(self._path, name), "a path below a store's root must not have '..' in it")
        here, where = self._opened.number, self._path
        between: Descriptor | None = None
        try:
            for directory in directories:
                where = os.path.join(where, directory)
                before, between = between, _open_in(here, directory, where, _PATH | os.O_NOFOLLOW)
                here = between.number
                if before is not None:
                    before.close()
            yield here, last, os.path.join(where, last)
        finally:
            if between is not None:
                between.close()


def write(
    path: AnyPath, content: bytes, mode: int, *, new: bool = False, append: bool = False, durable: bool = False
) -> None:
    """Write a regular file in place. If it is missing, it is made.

    Args:
        path: the file.
        content: the bytes to write.
        mode: the mode of the file, regardless of the umask.
        new: whether the file must not exist yet.
        append: whether to keep the content of the file, and write after it.
        durable: whether the content must be on disk when the call returns.

    Raises:
        FileExistsError: the file exists, but was to be new.
        BadRecord, OSError: as from `open_file`; or the file cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_EXCL if new else 0) | (os.O_APPEND if append else 0)
    with open_file(path, flags, mode) as fd, _naming_path(path):
        os.fchmod(fd, mode)
        if not new and not append:
            os.ftruncate(fd, 0)
        write_all(fd, content)
        if durable:
            os.fsync(fd)


def temporary_file(directory: AnyPath) -> BinaryIO:
    """Open a new file without a name, unbuffered, for writing and reading.

    If the file system has no `O_TMPFILE`, the file gets a random name, which is removed at once.

    Raises:
        BadRecord: `directory`, or a parent of it, is not a directory.
        OSError: the file cannot be made.
    """

    def make(_: str, flags: int) -> int:
        with open_directory(directory) as directory_fd:
            try:
                return open_fd(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                    error.filename = os.fsdecode(directory)
                    raise
            import secrets

            name = f".layerstore-{secrets.token_hex(8)}"
            fd = open_fd(name, flags | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
            os.unlink(name, dir_fd=directory_fd)
            return fd

    return cast("BinaryIO", open(os.fsdecode(directory), "w+b", buffering=0, opener=make))


def status(path: AnyPath) -> os.stat_result:
    """Return the status of the file at `path`; if it is a link, that of the link itself.

    Raises:
        BadRecord: a parent of the path is not a directory.
        OSError: the file does not exist, or its status cannot be read.
    """
    with parent(path) as (parent_fd, name), _naming_path(path):
        return os.stat(name, dir_fd=parent_fd, follow_symlinks=False)


def exists(path: AnyPath) -> bool:
    """Return whether anything exists at `path`, a broken link included; errors as from `status`."""
    try:
        status(path)
    except FileNotFoundError:
        return False
    return True


def is_directory(path: AnyPath) -> bool:
    """Return whether a directory is at `path`, not a link to one; errors as from `status`."""
    try:
        return stat.S_ISDIR(status(path).st_mode)
    except FileNotFoundError:
        return False


def names(path: AnyPath) -> list[str]:
    """Return the names in a directory, sorted; none if it is missing; errors as from `open_directory`."""
    try:
        opened = open_directory(path)
    except FileNotFoundError:
        return []
    with opened as fd:
        return sorted(os.listdir(fd))


def directory_names(path: AnyPath) -> list[str]:
    """Return the names of the subdirectories, sorted; none if the directory is missing; errors as `open_directory`."""
    try:
        opened = open_directory(path)
    except FileNotFoundError:
        return []
    with opened as fd, os.scandir(fd) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def has_entries(path: AnyPath) -> bool:
    """Return whether a directory exists and is not empty; errors as from `open_directory`."""
    try:
        opened = open_directory(path)
    except FileNotFoundError:
        return False
    with opened as fd, os.scandir(fd) as entries:
        return next(entries, None) is not None


def mkdir(path: AnyPath, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Make a directory, with a mode regardless of the umask.

    Args:
        path: the directory.
        mode: the mode.
        owner: user and group; `None` for those of this process.

    Raises:
        FileExistsError: the name is taken.
        BadRecord: a parent of the path is not a directory.
        OSError: the directory cannot be made. Nothing is left of it.
    """
    with parent(path) as (parent_fd, name), _naming_path(path):
        os.mkdir(name, 0o700, dir_fd=parent_fd)
        try:
            with _open_in(parent_fd, name, os.fsdecode(path), _DIRECTORY | os.O_NOFOLLOW) as fd:
                if owner is not None and owner != (os.geteuid(), os.getegid()):
                    os.fchown(fd, *owner)
                os.fchmod(fd, mode)
        except FileNotFoundError:
            raise
        except BaseException:
            os.rmdir(name, dir_fd=parent_fd)
            raise


def unlink(path: AnyPath, *, missing_ok: bool = False) -> None:
    """Remove a file, or a link itself.

    Raises:
        FileNotFoundError: the file does not exist, and `missing_ok` is false.
        BadRecord: a parent of the path is not a directory.
        OSError: the file cannot be removed.
    """
    try:
        with parent(path) as (parent_fd, name), _naming_path(path):
            os.unlink(name, dir_fd=parent_fd)
    except FileNotFoundError:
        if not missing_ok:
            raise


def rmdir(path: AnyPath) -> None:
    """Remove an empty directory; errors as from `unlink`."""
    with parent(path) as (parent_fd, name), _naming_path(path):
        os.rmdir(name, dir_fd=parent_fd)


def rename(source: AnyPath, target: AnyPath) -> None:
    """Rename a file or a directory. It replaces a file, or an empty directory, that has the new name.

    Raises:
        BadRecord: a parent of one of the paths is not a directory.
        OSError: the file cannot be renamed.
    """
    with parent(source) as (source_fd, name), parent(target) as (target_fd, new_name), _naming_path(source, target):
        os.rename(name, new_name, src_dir_fd=source_fd, dst_dir_fd=target_fd)


def flush(path: AnyPath) -> None:
    """Flush a file's content, or a directory's names, to disk: fsync(2); errors as from `status`."""
    with (
        parent(path) as (parent_fd, name),
        _naming_path(path),
        Descriptor(os.open, name, _FILE, dir_fd=parent_fd) as fd,
    ):
        os.fsync(fd)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            confirm_flush(fd)


def confirm_flush(directory_fd: int) -> None:
    """Make sure that a flush that succeeded has written to the disk, on the file system of a directory.

    If the disk refuses a write of ext4's journal, the call that waits for it fails: perhaps an fsync(2) of another
    process. A later flush of the same changes finds nothing to write, and succeeds (Linux 6.18). But the file system
    then accepts no new change. So try one that leaves nothing behind: a file without a name.

    Raises:
        OSError: the file system accepts no changes (EIO).
    """
    try:
        os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=directory_fd))
    except OSError as error:
        # Other errors, such as that of a file system that has no such files, do not concern the journal.
        if error.errno in (errno.EROFS, errno.EIO):
            words = "the file system accepts no changes any more, and the last ones may be lost: see the kernel's log"
            raise OSError(errno.EIO, words) from error


@contextmanager
def parent(path: AnyPath) -> Iterator[tuple[int, str]]:
    """Open the parent directory of `path` for the length of a `with` block.

    Yields:
        A descriptor of the directory, for operations relative to it only (`O_PATH`), and the last name of the path,
        which may be a link.

    Raises:
        BadRecord: a parent of the path is not a directory.
        OSError: a parent of the path is missing, or cannot be entered. The error has the path of that parent.
    """
    start, names = _split(path)
    if not names:  # the root itself, or a path that is not below a root
        start, name = os.path.split(start)
        names = [name]
    with _walk(start, names[:-1]) as fd:
        yield fd, names[-1]


def _absolute(path: AnyPath) -> str:
    """Return an absolute path. Each `..` is kept, because its meaning depends on links."""
    text = os.fsdecode(path)
    return (text if os.path.isabs(text) else os.path.join(os.getcwd(), text)).rstrip("/") or "/"


def _split(path: AnyPath) -> tuple[str, list[str]]:
    """Split a path into a beginning that may go through links, and the names that are to be opened one by one."""
    here = text = _absolute(path)
    while here not in _roots:
        up = os.path.dirname(here)
        if up == here:
            return text, []
        here = up
    names = [name for name in text[len(here) :].split("/") if name not in ("", ".")]
    if ".." in names:
        raise BadRecord(text, "a path below a store's root must not have '..' in it")
    return here, names


def _walk(start: str, names: Sequence[str]) -> Descriptor:
    """Open (`O_PATH`) the directory that `names` lead to from `start`. None of the names may be a link."""
    here = Descriptor(os.open, start, _PATH)
    where = start
    for name in names:
        where = os.path.join(where, name)
        before = here
        try:
            here = _open_in(before.number, name, where, _PATH | os.O_NOFOLLOW)
        finally:
            before.close()  # otherwise it would stay open for as long as the error is referenced
    return here


def _open_regular(parent_fd: int, name: str, path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> Descriptor:
    """Open a regular file in a directory; arguments and errors as for `open_file`; `path` is for messages."""
    opened = _open_in(parent_fd, name, path, flags | _FILE, mode)
    try:
        status = os.fstat(opened.number)
        if not stat.S_ISREG(status.st_mode):
            raise _wrong_type(path, status.st_mode, "a regular file")
        if flags & (os.O_WRONLY | os.O_RDWR) and status.st_nlink > 1:
            raise BadRecord(path, "it has another hard link, which may be anywhere; replace it by a copy of itself")
    except BaseException:
        opened.close()
        raise
    return opened


def _read_whole(fd: int, limit: int, path: str) -> bytes:
    """Read an open file of at most `limit` bytes; `path` is for messages."""
    content = os.read(fd, limit + 1)
    while len(content) <= limit and (more := os.read(fd, limit + 1 - len(content))):
        content += more
    if len(content) > limit:
        raise BadRecord(path, f"the file is longer than {limit} bytes")
    return content


def _open_in(parent_fd: int, name: str, path: str, flags: int, mode: int = 0o600) -> Descriptor:
    """Open a file in a directory, without following a link; `path` is for messages."""
    try:
        return Descriptor(os.open, name, flags, mode, dir_fd=parent_fd)
    except OSError as error:
        if error.errno in _WRONG_TYPE:
            try:
                found = os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode
            except OSError:
                found = 0
            raise _wrong_type(path, found, "a directory" if flags & os.O_DIRECTORY else "a regular file") from None
        error.filename = path
        raise


def _wrong_type(path: str, mode: int, expected: str) -> BadRecord:
    found = _TYPES.get(stat.S_IFMT(mode), "of another type")
    return BadRecord(path, f"it is {found}, not {expected}; {_WHAT_TO_DO}")


@contextmanager
def _naming_path(path: AnyPath, other: AnyPath | None = None) -> Iterator[None]:
    """Set the file name of each `OSError` to the whole path, in place of the last name."""
    try:
        yield
    except OSError as error:
        error.filename = os.fsdecode(path)
        if other is not None:
            error.filename2 = os.fsdecode(other)
        raise
