"""What an engine does with mount instructions: it mounts by mount(2), from another process than the driver's.

The rules are containerd's (`mount/mount_linux.go` of version 1.6). Flags are taken out of the options. A read-only bind
mount is made in two steps. If the options come near to a page of memory, the longest common directory of the lower
layers is taken away from them, by changing to it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from layerstore_core.driver.mount_spec import MountSpec

_READ_ONLY: Final = 1
_REMOUNT: Final = 0x20
_BIND: Final = 0x1000
_RECURSIVE: Final = 0x4000
_FLAGS: Final = {"rw": 0, "ro": _READ_ONLY, "bind": _BIND, "rbind": _BIND | _RECURSIVE, "nosuid": 2, "nodev": 4}
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: Options that leave less than this of a page are shortened.
_RESERVE: Final = 512
_DETACH: Final = 2


class CannotMount(Exception):
    """This user may not mount anything here."""


@contextmanager
def mounted_by_engine(mounts: Sequence[MountSpec], target: Path) -> Iterator[Path]:
    """Mount a layer as an engine does, for the length of a `with` block.

    Args:
        mounts: the driver's instructions.
        target: an empty directory.

    Raises:
        CannotMount: this user may not mount.
        OSError: the kernel has refused the instructions, or the mount is still in use at the end. It is no error if
            another program has ended the mount.
    """
    with ExitStack() as stack:
        for mount in mounts:
            try:
                _mount(mount, target)
            except PermissionError as error:
                raise CannotMount(str(error)) from error
            stack.callback(_unmount, target)
        yield target


def _mount(mount: MountSpec, target: Path) -> None:
    flags, data = 0, []
    for option in mount.options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        else:
            data.append(option)
    directory = ""
    if len(os.fsencode(",".join(data))) >= _PAGE - _RESERVE:
        directory, data = _shortened(data)
    text = os.fsencode(",".join(data))
    if len(text) >= _PAGE:
        raise OSError(errno.E2BIG, f"the mount options have {len(text)} bytes; a page has {_PAGE}", str(target))
    here = os.open(".", os.O_PATH | os.O_DIRECTORY)
    try:
        if directory:
            os.chdir(directory)
        _call(mount.source, target, mount.type, flags, text)
    finally:
        os.fchdir(here)
        os.close(here)
    if flags & _BIND and flags & _READ_ONLY:
        _call("", target, "", flags | _REMOUNT, b"")


def _shortened(options: list[str]) -> tuple[str, list[str]]:
    """Return the lower layers' common directory, and the options without it."""
    name = "lowerdir="
    listed = next((option for option in options if option.startswith(name)), name)
    lowers = listed.removeprefix(name).split(":")
    if len(lowers) < 2:
        return "", options
    if not all(map(os.path.isabs, lowers)):
        return "", options
    common = os.path.join(os.path.commonpath(map(os.path.dirname, lowers)), "")
    if common == "/":
        return "", options
    short = name + ":".join(lower.removeprefix(common) for lower in lowers)
    return common, [short if option == listed else option for option in options]


def _call(source: str, target: Path, kind: str, flags: int, data: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(target), os.fsencode(kind), ctypes.c_ulong(flags), data):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))


def _unmount(target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(target), 0):
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOENT):
            return
        libc.umount2(os.fsencode(target), _DETACH)
        raise OSError(code, os.strerror(code), str(target))
