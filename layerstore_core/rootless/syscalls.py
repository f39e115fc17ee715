"""The calls unshare(2) and setns(2), which Python has from 3.12 on, and one ioctl of namespaces."""

from __future__ import annotations

import fcntl
import os
import sys
from typing import Final

NEW_USER: Final = 0x10000000
NEW_MOUNTS: Final = 0x00020000
#: linux/nsfs.h: `_IO(0xb7, 1)`, the user namespace that owns a namespace.
_GET_USER_NAMESPACE: Final = 0xB701


def leave_to_new(flags: int) -> None:
    """Move this process into new namespaces; see unshare(2).

    Args:
        flags: the kinds of namespaces: `NEW_USER`, `NEW_MOUNTS`.

    Raises:
        OSError: the kernel refuses.
    """
    if sys.version_info >= (3, 12):
        os.unshare(flags)
    else:
        _call("unshare", flags)


def move_to(fd: int, kind: int) -> None:
    """Move this process into a namespace that exists; see setns(2).

    Args:
        fd: a descriptor of the namespace.
        kind: the kind that it must have, as for `leave_to_new`.

    Raises:
        OSError: the kernel refuses.
    """
    if sys.version_info >= (3, 12):
        os.setns(fd, kind)
    else:
        _call("setns", fd, kind)


def owner_of_mounts() -> int | None:
    """Return the inode number of the user namespace that owns this process's mounts.

    `None` if that is a namespace around this process's own, whose mounts it may not change.

    Raises:
        OSError: there is no /proc.
    """
    fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(fd, _GET_USER_NAMESPACE)
    except PermissionError:
        return None
    finally:
        os.close(fd)
    try:
        return os.fstat(owner).st_ino
    finally:
        os.close(owner)


def _call(name: str, *arguments: int) -> None:
    import ctypes  # lazy: few commands enter a namespace

    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*map(ctypes.c_int, arguments)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
