"""Files and directories below a store's root, reached without following links.

The owner of a root need not be the user who works in it, and may put a link in the place of anything there, at any
moment. So nothing below a root is reached by its path at once: each directory is opened relative to the one
above it, with `O_NOFOLLOW`, and what is done with the last name is done relative to the last directory. The root itself,
and what is above it, may be reached through links: whoever may change those is trusted.

The functions take paths. One that is not below a guarded root is used as it is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final, cast

from layerstore_core.descriptors import Descriptor, open_fd
from layerstore_core.errors import BadRecord

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_roots: Final[set[str]] = set()

_PATH: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: should a FIFO stand there, opening it must not wait for the other side.
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: What open(2) says of something of another type.
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
    "no link below a store's root is followed, and nothing else is taken in its place; see who put it there, and remove "
    "it or put back what belongs there (a directory on another disk can be mounted there with mount --bind)"
)


def guard(root: AnyPath) -> None:
    """From now on, follow no link below `root`, by whichever of its names it is reached: its own, or the real one."""
    path = _absolute(root)
    if path not in _roots:
        _roots.update((path, os.path.abspath(path), os.path.realpath(path)))


def open_directory(path: AnyPath | int, flags: int = 0) -> Descriptor:
    """Open a directory for reading.

    Args:
        path: the directory, or a descriptor of it.
        flags: more flags of open(2).

    Raises:
        BadRecord: it, or something on the way to it, is no directory.
        OSError: it is not there, or cannot be opened.
    """
    if isinstance(path, int):
        return Descriptor(os.open, ".", _DIRECTORY | flags, dir_fd=path)
    start, names = _split(path)
    if not names:
        return Descriptor(os.open, start, _DIRECTORY | flags)
    with _walk(start, names[:-1]) as above:
        return _open_in(above, names[-1], os.path.join(start, *names), _DIRECTORY | os.O_NOFOLLOW | flags)


def open_file(path: AnyPath, flags: int = os.O_RDONLY, mode: int = 0o600) -> Descriptor:
    """Open a regular file.

    Args:
        path: the file.
        flags: of open(2), but for `O_TRUNC`, which would come before the look at the file: see `write`.
        mode: of the file, if it is made.

    Raises:
        BadRecord: it is no regular file, or is to be written in place and has another name, perhaps outside of
            the root; or something on the way to it is no directory.
        OSError: it cannot be opened.
    """
    with parent(path) as (above, name):
        opened = _open_in(above, name, os.fsdecode(path), flags | _FILE, mode)
        try:
            status = os.fstat(opened.number)
            if not stat.S_ISREG(status.st_mode):
                raise _wrong(os.fsdecode(path), status.st_mode, "a regular file")
            if flags & (os.O_WRONLY | os.O_RDWR) and status.st_nlink > 1:
                raise BadRecord(
                    os.fsdecode(path), "it has another name, which may be anywhere; replace it by a copy of its own"
                )
        except BaseException:
            opened.close()
            raise
        return opened


def opener(path: str, flags: int) -> int:
    """As `open_file`, for the argument `opener` of `open`; new files get the mode 0644 less the umask."""
    return open_file(path, flags, 0o644).detach()


def read(path: AnyPath, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        BadRecord: it is longer; otherwise as `open_file`.
        OSError: as `open_file`.
    """
    with open_file(path) as fd:
        content = os.read(fd, limit + 1)
        while len(content) <= limit and (more := os.read(fd, limit + 1 - len(content))):
            content += more
    if len(content) > limit:
        raise BadRecord(os.fsdecode(path), f"the file is longer than {limit} bytes")
    return content


def write(
    path: AnyPath, content: bytes, mode: int, *, new: bool = False, append: bool = False, durable: bool = False
) -> None:
    """Write a regular file in place; where it is missing it is made.

    Args:
        path: the file.
        content: what to write.
        mode: of the file, whatever the umask says.
        new: it must not be there yet.
        append: keep what is in it.
        durable: whether the content is on disk when the call returns.

    Raises:
        FileExistsError: it is there, and was to be new.
        BadRecord, OSError: as `open_file`; or it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_EXCL if new else 0) | (os.O_APPEND if append else 0)
    with open_file(path, flags, mode) as fd, _about(path):
        os.fchmod(fd, mode)
        if not new and not append:
            os.ftruncate(fd, 0)
        while content:
            content = content[os.write(fd, content) :]
        if durable:
            os.fsync(fd)


def temporary_file(directory: AnyPath) -> BinaryIO:
    """A new file, unbuffered, to write and read, which has no name, or none for long.

    Raises:
        BadRecord: `directory`, or something on the way to it, is no directory.
        OSError: the file cannot be made.
    """

    def make(_: str, flags: int) -> int:
        with open_directory(directory) as above:
            try:
                return open_fd(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=above)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                    error.filename = os.fsdecode(directory)
                    raise
            import secrets

            name = f".layerstore-{secrets.token_hex(8)}"
            fd = open_fd(name, flags | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=above)
            os.unlink(name, dir_fd=above)
            return fd

    return cast("BinaryIO", open(os.fsdecode(directory), "w+b", buffering=0, opener=make))


def status(path: AnyPath) -> os.stat_result:
    """The status of what is at `path`, of a link itself.

    Raises:
        BadRecord: something on the way to it is no directory.
        OSError: it is not there, or cannot be looked at.
    """
    with parent(path) as (above, name), _about(path):
        return os.stat(name, dir_fd=above, follow_symlinks=False)


def exists(path: AnyPath) -> bool:
    """Whether anything is at `path`, be it a link that leads nowhere; errors as `status`."""
    try:
        status(path)
    except FileNotFoundError:
        return False
    return True


def is_directory(path: AnyPath) -> bool:
    """Whether a directory is at `path`, and no link to one; errors as `status`."""
    try:
        return stat.S_ISDIR(status(path).st_mode)
    except FileNotFoundError:
        return False


def names(path: AnyPath) -> list[str]:
    """The names in a directory, sorted; none where it is missing; errors as `open_directory`."""
    try:
        opened = open_directory(path)
    except FileNotFoundError:
        return []
    with opened as fd:
        return sorted(os.listdir(fd))


def directory_names(path: AnyPath) -> list[str]:
    """The names of the directories in a directory, sorted; none where it is missing; errors as `open_directory`."""
    try:
        opened = open_directory(path)
    except FileNotFoundError:
        return []
    with opened as fd, os.scandir(fd) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def has_entries(path: AnyPath) -> bool:
    """Whether a directory is there and is not empty; errors as `open_directory`."""
    try:
        opened = open_directory(path)
    except FileNotFoundError:
        return False
    with opened as fd, os.scandir(fd) as entries:
        return next(entries, None) is not None


def mkdir(path: AnyPath, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Make a directory, with this mode whatever the umask says.

    Args:
        path: the directory.
        mode: its mode.
        owner: user and group; `None`: this process's.

    Raises:
        FileExistsError: the name is taken.
        BadRecord: something on the way to it is no directory.
        OSError: it cannot be made; nothing is left of it.
    """
    with parent(path) as (above, name), _about(path):
        os.mkdir(name, 0o700, dir_fd=above)
        try:
            with _open_in(above, name, os.fsdecode(path), _DIRECTORY | os.O_NOFOLLOW) as fd:
                if owner is not None and owner != (os.geteuid(), os.getegid()):
                    os.fchown(fd, *owner)
                os.fchmod(fd, mode)
        except FileNotFoundError:
            raise
        except BaseException:
            os.rmdir(name, dir_fd=above)
            raise


def unlink(path: AnyPath, *, missing_ok: bool = False) -> None:
    """Remove a file, or a link itself.

    Raises:
        FileNotFoundError: it is not there, and has to be.
        BadRecord: something on the way to it is no directory.
        OSError: it cannot be removed.
    """
    try:
        with parent(path) as (above, name), _about(path):
            os.unlink(name, dir_fd=above)
    except FileNotFoundError:
        if not missing_ok:
            raise


def rmdir(path: AnyPath) -> None:
    """Remove an empty directory; errors as `unlink`."""
    with parent(path) as (above, name), _about(path):
        os.rmdir(name, dir_fd=above)


def rename(source: AnyPath, target: AnyPath) -> None:
    """Give a file or a directory another name; it takes the place of a file, or of an empty directory.

    Raises:
        BadRecord: something on the way to one of them is no directory.
        OSError: it cannot be renamed.
    """
    with parent(source) as (above, name), parent(target) as (target_above, target_name), _about(source, target):
        os.rename(name, target_name, src_dir_fd=above, dst_dir_fd=target_above)


def flush(path: AnyPath) -> None:
    """Make a file's content, or a directory's names, durable: fsync(2); errors as `status`."""
    with parent(path) as (above, name), _about(path), Descriptor(os.open, name, _FILE, dir_fd=above) as fd:
        os.fsync(fd)


@contextmanager
def parent(path: AnyPath) -> Iterator[tuple[int, str]]:
    """A block around something that is done relative to the directory above `path`.

    Yields:
        A descriptor of it, for nothing else than that (`O_PATH`), and the last name, which may be a link.

    Raises:
        BadRecord: something on the way is no directory.
        OSError: something on the way is missing, or cannot be entered; with `path` as its file name.
    """
    start, names = _split(path)
    if not names:  # the root itself, or a path that is no store's
        start, name = os.path.split(start)
        names = [name]
    with _walk(start, names[:-1]) as fd:
        yield fd, names[-1]


def _absolute(path: AnyPath) -> str:
    """The path from the root directory on, with `..` in it, should there be any: what that means, links decide."""
    text = os.fsdecode(path)
    return (text if os.path.isabs(text) else os.path.join(os.getcwd(), text)).rstrip("/") or "/"


def _split(path: AnyPath) -> tuple[str, list[str]]:
    """Where links may lead to, and the names below that are to be gone through one by one."""
    here = text = _absolute(path)
    while here not in _roots:
        above = os.path.dirname(here)
        if above == here:
            return text, []
        here = above
    names = [name for name in text[len(here) :].split("/") if name not in ("", ".")]
    if ".." in names:
        raise BadRecord(text, "a path below a store's root has no '..' in it")
    return here, names


def _walk(start: str, names: Sequence[str]) -> Descriptor:
    """A descriptor (`O_PATH`) of the directory that one gets to from `start` by `names`, none of which may be a link."""
    here = Descriptor(os.open, start, _PATH)
    where = start
    for name in names:
        where = os.path.join(where, name)
        above = here
        try:
            here = _open_in(above.number, name, where, _PATH | os.O_NOFOLLOW)
        finally:
            above.close()  # else it would stay open for as long as somebody keeps the error
    return here


def _open_in(above: int, name: str, path: str, flags: int, mode: int = 0o600) -> Descriptor:
    """Open something in a directory, without following a link; `path` is for messages."""
    try:
        return Descriptor(os.open, name, flags, mode, dir_fd=above)
    except OSError as error:
        if error.errno in _WRONG_TYPE:
            try:
                found = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
            except OSError:
                found = 0
            raise _wrong(path, found, "a directory" if flags & os.O_DIRECTORY else "a regular file") from None
        error.filename = path
        raise


def _wrong(path: str, mode: int, wanted: str) -> BadRecord:
    found = _TYPES.get(stat.S_IFMT(mode), "something else")
    return BadRecord(path, f"{found} stands there, where {wanted} belongs; {_WHAT_TO_DO}")


@contextmanager
def _about(path: AnyPath, other: AnyPath | None = None) -> Iterator[None]:
    """Give an `OSError` the whole path in the place of a last name."""
    try:
        yield
    except OSError as error:
        error.filename = os.fsdecode(path)
        if other is not None:
            error.filename2 = os.fsdecode(other)
        raise
