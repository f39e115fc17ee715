"""Walk through a tree by descriptors. The tree may have any depth, and may change meanwhile.

Every directory is opened relative to its parent's descriptor, and never through a symbolic link. So no path is ever too
long, and no link leads out of the tree.
"""

from __future__ import annotations

import errno
import os
from typing import Final, Self

from layerstore_core.base import inside
from layerstore_core.base.descriptors import open_fd

#: The number of parent directories that are kept open.
_MAX_OPEN: Final = 32
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: if the file was replaced by a fifo meanwhile, opening it must not wait for a writer.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class TreeWalk:
    """Current directory in a tree, and the way back up. A context manager.

    Up to a limit, the parent directories are kept open. Above the limit the way up is `..`, and it must be the
    directory that the way down came from.

    Args:
        root: the top of the tree, or a descriptor of it; see `layerstore_core.base.inside`.

    Attributes:
        path: the current directory, relative to the root; the root itself is `b""`.
        fd: the current directory's descriptor, open until the next move.
    """

    __slots__ = ("_closed", "_fds", "_lengths", "fd", "path", "root")

    def __init__(self, root: str | bytes | os.PathLike[str] | int) -> None:
        self.root = b"" if isinstance(root, int) else os.fsencode(root)
        self.path = b""
        self._fds: list[int] = []
        try:
            self.fd = inside.open_directory(root, os.O_NOATIME).detach()
        except PermissionError:
            self.fd = inside.open_directory(root).detach()
        self._fds.append(self.fd)
        #: The length that `path` had in each of the parent directories.
        self._lengths: list[int] = []
        #: Device and inode of each parent directory that was closed.
        self._closed: list[tuple[int, int]] = []

    def down(self, name: bytes | str) -> int:
        """Go into the directory `name`, and return its descriptor.

        Raises:
            OSError: it does not exist, or is no directory. The current directory is still the same.
        """
        try:
            fd = _open(name, _DIRECTORY, self.fd)
        except OSError as error:
            error.filename = self.absolute(name)
            raise
        self._fds.append(fd)
        self._lengths.append(len(self.path))
        self.fd = fd
        self.path = self.join(name)
        far = len(self._fds) - _MAX_OPEN
        # Never close the root: there is no `..` to reach it by. After a way up, the directory is closed already.
        if far > 0 and self._fds[far] >= 0:
            status = os.fstat(self._fds[far])
            self._closed.append((status.st_dev, status.st_ino))
            closed, self._fds[far] = self._fds[far], -1  # forget it first, then close it: see `base.descriptors`
            os.close(closed)
        return fd

    def up(self) -> None:
        """Go back to the parent directory.

        Raises:
            OSError: with `ESTALE` if the directory was moved meanwhile.
        """
        left = self._fds[-1]
        del self._fds[-1]  # not `pop`: an exception from a signal handler right after it would lose the number
        try:
            if self._fds[-1] < 0:
                self._fds[-1] = _open(b"..", _DIRECTORY, left)
                status = os.fstat(self._fds[-1])
                if self._closed.pop() != (status.st_dev, status.st_ino):
                    raise OSError(errno.ESTALE, "a directory was moved while its tree was read", self.absolute(b""))
        finally:
            os.close(left)
        self.fd = self._fds[-1]
        self.path = self.path[: self._lengths.pop()]

    def enter(self, path: bytes) -> int:
        """Go to the directory `path`, relative to the root, from the current directory.

        Raises:
            OSError: something on the way does not exist, or is no directory.
        """
        while self.path and self.path != path and not path.startswith(self.path + b"/"):
            self.up()
        rest = path[len(self.path) :].lstrip(b"/")
        if rest:
            for name in rest.split(b"/"):
                self.down(name)
        return self.fd

    @property
    def root_fd(self) -> int:
        """The root's descriptor."""
        return self._fds[0]

    def again(self) -> TreeWalk:
        """Return another walk through the same tree, for another thread; it begins at the root."""
        walk = TreeWalk(self.root_fd)
        walk.root = self.root
        return walk

    def join(self, name: bytes | str) -> bytes:
        """Return the path of a name in this directory, relative to the root."""
        base = os.fsencode(name)
        return self.path + b"/" + base if self.path else base

    def absolute(self, name: bytes | str) -> str:
        """Return the path of a name in this directory, for messages."""
        return os.fsdecode(os.path.join(self.root, self.join(name)))

    def open_file(self, name: bytes | str) -> int:
        """Open a regular file in this directory for reading, and return a descriptor, which the caller has to close.

        The caller must have checked that it is a regular file: opening a device can have side effects.
        """
        try:
            try:
                return open_fd(name, _FILE | os.O_NOATIME, dir_fd=self.fd)
            except PermissionError:
                return open_fd(name, _FILE, dir_fd=self.fd)
        except OSError as error:
            error.filename = self.absolute(name)
            raise

    def handle(self, name: bytes | str) -> bytes:
        """Return a path to a name in this directory, for system calls that take no descriptor of a directory."""
        return b"/proc/self/fd/%d/%b" % (self.fd, os.fsencode(name))

    def close(self) -> None:
        """Close all descriptors."""
        while self._fds:
            fd = self._fds[-1]
            del self._fds[-1]
            if fd >= 0:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _open(name: bytes | str, flags: int, dir_fd: int | None = None) -> int:
    try:
        # O_NOATIME: reading a layer must not write to it. Only the owner may use this flag.
        return open_fd(name, flags | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:
        return open_fd(name, flags, dir_fd=dir_fd)
