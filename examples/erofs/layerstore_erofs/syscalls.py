"""Mounting without mount points: fsopen(2), fsconfig(2), fsmount(2) and move_mount(2), by number.

Python has no functions for them, and neither has glibc up to 2.35. The numbers are the same on all architectures.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from typing import Final

_MOVE_MOUNT: Final = 429
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432

_CLOEXEC: Final = 1  # FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
_SET_FLAG: Final = 0
_SET_STRING: Final = 1
_SET_FD: Final = 5
_CREATE: Final = 6
_ATTR_RDONLY: Final = 1
_FROM_EMPTY_PATH: Final = 4
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8

_libc = ctypes.CDLL(None, use_errno=True)


def mount_image(image: str) -> int:
    """Mount an EROFS image from its file, without a mount point.

    Returns:
        A descriptor of the mounted tree. Closing it unmounts the tree, unless `attach` has attached it.

    Raises:
        OSError: the kernel refuses: before 6.12 it mounts block devices only (ENOTBLK).
    """
    with _Context("erofs") as context:
        context.string("source", image)
        context.flag("ro")
        return context.mount(read_only=True, path=image)


def mount_overlay(lower: Sequence[int], upper: int | None, work: int | None, path: str) -> int:
    """Stack trees by overlayfs, without a mount point.

    Args:
        lower: descriptors of the lower trees, the uppermost first. The overlay keeps the trees mounted.
        upper: descriptor of the directory that changes go to; `None` mounts the lower trees read-only.
        work: descriptor of an empty directory on the file system of `upper`.
        path: the path that errors name.

    Returns:
        A descriptor of the mounted tree.

    Raises:
        OSError: the kernel refuses: before 6.13 it takes no descriptors (EINVAL).
    """
    with _Context("overlay") as context:
        for tree in lower:
            context.descriptor("lowerdir+", tree)
        if upper is not None and work is not None:
            context.descriptor("upperdir", upper)
            context.descriptor("workdir", work)
        for option in ("redirect_dir", "metacopy", "index", "xino"):
            context.string(option, "off")
        return context.mount(read_only=upper is None, path=path)


def attach(tree: int, directory: str) -> None:
    """Attach a mounted tree at a directory."""
    _call(_MOVE_MOUNT, tree, b"", -100, os.fsencode(directory), _FROM_EMPTY_PATH, path=directory)


def unmount(directory: str) -> bool:
    """Remove the uppermost mount of a directory; return whether there was one."""
    if _libc.umount2(os.fsencode(directory), _MNT_DETACH | _UMOUNT_NOFOLLOW) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOENT):  # nothing is mounted there, or it is not there
        return False
    raise OSError(number, os.strerror(number), directory)


class _Context:
    """A file system context (see fsopen(2)): it collects options, and is then mounted."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._fd = _call(_FSOPEN, kind.encode(), _CLOEXEC, path=kind)

    def string(self, key: str, value: str) -> None:
        _call(_FSCONFIG, self._fd, _SET_STRING, key.encode(), os.fsencode(value), 0, path=value)

    def flag(self, key: str) -> None:
        _call(_FSCONFIG, self._fd, _SET_FLAG, key.encode(), None, 0, path=key)

    def descriptor(self, key: str, fd: int) -> None:
        _call(_FSCONFIG, self._fd, _SET_FD, key.encode(), None, fd, path=key)

    def mount(self, *, read_only: bool, path: str) -> int:
        try:
            _call(_FSCONFIG, self._fd, _CREATE, None, None, 0, path=path)
            return _call(_FSMOUNT, self._fd, _CLOEXEC, _ATTR_RDONLY if read_only else 0, path=path)
        except OSError as error:
            error.add_note(f"while mounting {self._kind}: {self._log()}")
            raise

    def _log(self) -> str:
        """Return the kernel's messages about this context."""
        lines = []
        try:
            while line := os.read(self._fd, 1024):
                lines.append(line.decode(errors="replace").strip())
        except OSError:
            pass  # ENODATA: that was all
        return "; ".join(lines) or "the kernel gives no reason"

    def __enter__(self) -> _Context:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _call(number: int, *arguments: int | bytes | None, path: str) -> int:
    values = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *values)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result
