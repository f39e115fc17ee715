"""System calls for which Python has no functions.

Numbers above 424 are the same on all architectures. Source: Linux, `include/uapi/linux/mount.h` and
`include/uapi/asm-generic/unistd.h`.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from layerstore_core.sdk import inside

_MOVE_MOUNT: Final = 429
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432

_FSOPEN_CLOEXEC: Final = 1
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_SET_FD: Final = 5
_FSCONFIG_CMD_CREATE: Final = 6
_FSMOUNT_CLOEXEC: Final = 1
_MOUNT_ATTR_RDONLY: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
_MS_RDONLY: Final = 1
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def system_call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call. Numbers are passed as `long`, bytes as pointers to strings that end with NUL.

    Raises:
        OSError: the call failed.
    """
    passed = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *passed))


def fsopen(file_system: bytes) -> int:
    """Open a context for a new instance of a file system; return its descriptor."""
    return system_call(_FSOPEN, file_system, _FSOPEN_CLOEXEC)


def fsconfig_set(fs_fd: int, key: bytes, value: bytes | None) -> None:
    """Set an option of the context; a flag has the value `None`."""
    command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
    system_call(_FSCONFIG, fs_fd, command, key, value, 0)


def fsconfig_set_directory(fs_fd: int, key: bytes, directory: int) -> None:
    """Set an option to an open directory: by its descriptor, or before Linux 6.13 by its path in /proc."""
    try:
        system_call(_FSCONFIG, fs_fd, _FSCONFIG_SET_FD, key, None, directory)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        read_log(fs_fd)
        fsconfig_set(fs_fd, key, b"/proc/self/fd/%d" % directory)


def fsconfig_create(fs_fd: int) -> None:
    """Create the instance of the file system."""
    system_call(_FSCONFIG, fs_fd, _FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(fs_fd: int, *, read_only: bool) -> int:
    """Mount the instance without a mount point; return a descriptor of its root directory."""
    return system_call(_FSMOUNT, fs_fd, _FSMOUNT_CLOEXEC, _MOUNT_ATTR_RDONLY if read_only else 0)


def move_mount(mount_fd: int, target: int) -> None:
    """Attach a mount at an open directory."""
    system_call(_MOVE_MOUNT, mount_fd, b"", target, b"", _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH)


def read_log(fs_fd: int) -> list[str]:
    """Read the kernel's messages about a context. Each is returned only once."""
    messages: list[str] = []
    while True:
        try:
            message = os.read(fs_fd, 4096)
        except OSError:  # ENODATA: nothing more
            return messages
        messages.append(message.decode("utf-8", "backslashreplace").strip().removeprefix("e ").removeprefix("w "))


def mount(target: bytes, data: bytes, *, read_only: bool) -> None:
    """Mount an overlay the older way, by the system call of this name."""
    flags = ctypes.c_ulong(_MS_RDONLY if read_only else 0)
    _checked(_libc.mount(b"overlay", target, b"overlay", flags, data))


def unmount(path: str, *, lazy: bool = False) -> bool:
    """Unmount the file system at `path`; return `False` if nothing is mounted there, or there is no such directory.

    Args:
        path: the mount point. No link below a store's root is followed.
        lazy: detach the mount at once, and end it with its last user.

    Raises:
        OSError: it is in use (`EBUSY`; never if `lazy`), or the call failed for another reason.
    """
    try:
        with inside.parent(path) as (above, name):
            point = b"/proc/self/fd/%d/%b" % (above, os.fsencode(name))
            _checked(_libc.umount2(point, _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return False
        error.filename = path
        error.add_note("while unmounting")
        raise
    return True


def quotactl(command: int, device: bytes, identity: int, data: ctypes.Array[ctypes.c_char]) -> None:
    """Make the system call of this name, for kernels without quotactl_fd(2). The device names the file system."""
    _checked(_libc.quotactl(command, device, identity, data))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
