"""The processes of a user that are in the namespace that all of them share.

Two mounts of one writable layer in two namespaces would spoil it: overlayfs may be given an upper directory once only.
So a process enters the namespace of another one that lives, and sees its mounts. The namespace ends with its last
process. Each has a file, named by its ID, with the inode numbers of its namespaces: another process that later gets the
same ID has others.

The files are in `/run/user/<uid>/layerstore`, or in `/tmp/layerstore-<uid>` where there is no such directory. No
variable of the environment changes that, since all processes have to find the same.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.errors import UserNamespaceError

_LOCK: Final = "lock"
_KINDS: Final = ("user", "mnt")
#: More bytes than this are never in a file.
_LONGEST: Final = 64


class Members:
    """The locked list of the processes of one user. Its methods are called by the process that has it locked.

    Args:
        directory: a descriptor of the directory with the files.
    """

    def __init__(self, directory: int) -> None:
        self._directory = directory
        # Processes of containers may share the directory, and have the same IDs.
        self._prefix = f"{os.stat('/proc/self/ns/pid').st_ino}-"

    def living(self) -> Iterator[int]:
        """Yield the IDs of the processes in a namespace, and remove the files of those that have ended."""
        for name in sorted(os.listdir(self._directory)):
            pid = name.removeprefix(self._prefix)
            if pid == name or not pid.isdigit():
                continue
            with suppress(OSError):
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
                try:
                    recorded = os.read(fd, _LONGEST).decode("ascii", "replace")
                finally:
                    os.close(fd)
                if recorded and recorded == _namespaces_of(pid):
                    yield int(pid)
                else:
                    os.unlink(name, dir_fd=self._directory)

    def add_this(self) -> None:
        """Add this process, which is in the namespace.

        Raises:
            OSError: the file cannot be written.
        """
        name = f"{self._prefix}{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self._directory)
        try:
            os.write(fd, _namespaces_of("self").encode("ascii"))
        finally:
            os.close(fd)


@contextmanager
def locked_members(uid: int) -> Iterator[Members]:
    """Lock the list of a user's processes for the length of a `with` block.

    Args:
        uid: the user, who is this process's.

    Raises:
        UserNamespaceError: the directory of the list belongs to another user, or cannot be made.
    """
    path = _directory(uid)
    with ExitStack() as opened:
        try:
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            directory = opened.enter_context(Descriptor(os.open, path, flags))
            status = os.fstat(directory)
            if status.st_uid != uid or stat.S_IMODE(status.st_mode) & 0o077:
                raise UserNamespaceError(
                    f"{path}, where the processes of user {uid} find each other, is not that user's alone; remove it"
                )
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = opened.enter_context(Descriptor(os.open, _LOCK, flags, 0o600, dir_fd=directory))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise UserNamespaceError(
                f"{path}, where the processes of user {uid} find each other, cannot be used: {error.strerror}"
            ) from error
        yield Members(directory)


def _directory(uid: int) -> str:
    runtime = f"/run/user/{uid}"
    try:
        if os.stat(runtime).st_uid == uid:
            return f"{runtime}/layerstore"
    except OSError:
        pass
    return f"/tmp/layerstore-{uid}"


def _namespaces_of(pid: str) -> str:
    """Return the inode numbers of a process's namespaces; empty if it has ended, or is another user's."""
    try:
        return " ".join(str(os.stat(f"/proc/{pid}/ns/{kind}").st_ino) for kind in _KINDS)
    except OSError:
        return ""
