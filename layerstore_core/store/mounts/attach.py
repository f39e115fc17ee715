"""Attaching a directory read-only at another one, in one step: it is never to be seen writable.

A bind mount that is made read-only afterwards can be written for a moment, or for ever if the process is killed then.
So the mount is cloned, changed while no path leads to it, and attached. Needs Linux 5.12.

Numbers of system calls above 424 are the same on all architectures. Source: Linux, `include/uapi/linux/mount.h` and
`include/uapi/asm-generic/unistd.h`; the format of the files is in proc(5).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.descriptors import Descriptor, open_fd
from layerstore_core.errors import LayerStoreError

_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_MOUNT_SETATTR: Final = 442

_OPEN_TREE_CLONE: Final = 1
_OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
_AT_EMPTY_PATH: Final = 0x1000
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
_READ_ONLY: Final = 1
_NO_SETUID: Final = 2
_NO_DEVICES: Final = 4
_UMOUNT_NOFOLLOW: Final = 8

_MOUNT_ID = re.compile(r"^mnt_id:\s*(\d+)$", re.MULTILINE | re.ASCII)
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@contextmanager
def read_only_clone(tree: str) -> Iterator[int]:
    """Clone the mount of a directory below the store's root, for a block that gets its descriptor; attach it nowhere.

    Files in it cannot be written, devices cannot be opened, and programs gain no rights of their owner.

    Raises:
        LayerStoreError: the kernel cannot do this.
        OSError: this process may not mount (`EPERM`), or the directory cannot be opened.
    """
    with inside.open_directory(tree) as directory:
        flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH
        try:
            clone = Descriptor(_call, _OPEN_TREE, directory, b"", flags)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise LayerStoreError("mounting an image needs Linux 5.12 or newer") from None
            raise
    with clone as number:
        wanted = (ctypes.c_uint64 * 4)(_READ_ONLY | _NO_SETUID | _NO_DEVICES, 0, 0, 0)
        try:
            _call(_MOUNT_SETATTR, number, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), ctypes.sizeof(wanted))
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise LayerStoreError("mounting an image needs Linux 5.12 or newer") from None
            raise
        yield number


def attach(clone: int, directory: int) -> None:
    """Attach a cloned mount at an open directory."""
    _call(_MOVE_MOUNT, clone, b"", directory, b"", _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH)


def detach(point: str, tree: str) -> bool:
    """Unmount what is mounted last at a path, if it shows a given directory.

    Args:
        point: the mount point.
        tree: the directory. A note in another user's root may name any mount point: nothing else is unmounted.

    Returns:
        Whether it was mounted there.

    Raises:
        OSError: it is in use (`EBUSY`), or this process may not unmount.
    """
    parent, name = os.path.split(point)
    with Descriptor(open_fd, parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) as above:
        if not os.path.samestat(os.stat(name, dir_fd=above, follow_symlinks=False), os.stat(tree)):
            return False
        path = b"/proc/self/fd/%d/%b" % (above, os.fsencode(name))
        if _libc().umount2(ctypes.c_char_p(path), ctypes.c_int(_UMOUNT_NOFOLLOW)):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), point)
    return True


def mount_id(descriptor: int) -> int:
    """Return the ID of the mount of an open file. The kernel may give it again when the mount is gone."""
    match = _MOUNT_ID.search(Path(f"/proc/self/fdinfo/{descriptor}").read_text())
    if match is None:
        raise LayerStoreError("/proc does not tell the IDs of mounts; mount it as usual")
    return int(match[1])


def mount_points() -> dict[int, str]:
    """Return the paths at which mounts are attached that this process sees, by the IDs of the mounts."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields = line.split(b" ", 5)
        found[int(fields[0])] = os.fsdecode(_ESCAPED.sub(lambda digits: bytes([int(digits[1], 8)]), fields[4]))
    return found


def _call(number: int, *arguments: object) -> int:
    passed = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = _libc().syscall(ctypes.c_long(number), *passed)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
