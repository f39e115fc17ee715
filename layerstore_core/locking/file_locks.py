"""Locks on a range of a file, as functions of its descriptor: fcntl(2), "Open file description locks".

Such a lock belongs to the open file, and not to the process: two open files of one process exclude each other, and the
lock ends when the file is closed, at the latest with the process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Final

#: `struct flock` of 64-bit Linux: type, whence, start, length, pid.
_FLOCK: Final = struct.Struct("hhqqi4x")


def set_lock(fd: int, kind: int, *, start: int = 0, length: int = 0, wait: bool = False) -> None:
    """Set or release a lock.

    Args:
        fd: the file.
        kind: `fcntl.F_WRLCK` for an exclusive lock, `fcntl.F_RDLCK` for a shared one, `fcntl.F_UNLCK` for none.
        start: the first byte of the range.
        length: its length in bytes; 0 for all up to the end of the file, however long it gets.
        wait: whether to wait as long as another open file has a lock that excludes this one.

    Raises:
        OSError: another open file has such a lock (`EAGAIN`, `EACCES`), or the file system has no locks.
    """
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    fcntl.fcntl(fd, command, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))


def try_lock(fd: int, kind: int = fcntl.F_WRLCK, *, start: int = 0, length: int = 0) -> bool:
    """Set a lock as `set_lock` does; return `False` if another open file has one that excludes it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        set_lock(fd, kind, start=start, length=length)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unlock(fd: int) -> None:
    """Release all locks of an open file."""
    set_lock(fd, fcntl.F_UNLCK)


def is_locked(fd: int, *, start: int = 0, length: int = 0) -> bool:
    """Return whether another open file has a lock in a range; arguments as for `set_lock`.

    Raises:
        OSError: the file system has no locks.
    """
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
    kind: int = _FLOCK.unpack(answer)[0]
    return kind != fcntl.F_UNLCK
