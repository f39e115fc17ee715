"""Finding mounts, and unmounting them."""

from __future__ import annotations

import errno
import os
import re
from typing import Final, NamedTuple

from layerstore_core.sdk import inside
from layerstore_overlay import syscalls

_ESCAPED: Final = rb"\\([0-7]{3})"


class Mount(NamedTuple):
    """A line of `/proc/self/mountinfo` (proc(5)).

    Attributes:
        point: the absolute path of the mount point.
        file_system: the type of the file system.
        source: the device, if the file system has one.
    """

    point: bytes
    file_system: str
    source: bytes


def read_mounts() -> list[Mount]:
    """Return all mounts that this process sees. A later one may cover an earlier one."""
    mounts = []
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            where, _, what = line.rstrip(b"\n").partition(b" - ")
            kind, source = what.split(b" ")[:2]
            mounts.append(Mount(_plain(where.split(b" ")[4]), kind.decode(), _plain(source)))
    return mounts


def is_mount_point(path: str) -> bool:
    """Return whether a file system is mounted at `path`, from the device numbers of it and of its directory."""
    try:
        with inside.parent(path) as (above, name):
            return os.stat(name, dir_fd=above, follow_symlinks=False).st_dev != os.fstat(above).st_dev
    except FileNotFoundError:
        return False


def mounted_type(path: str) -> str | None:
    """Return the type of the file system mounted at `path`, an absolute path without links; `None` if there is none."""
    point = os.fsencode(path)
    return next((mount.file_system for mount in reversed(read_mounts()) if mount.point == point), None)


def mount_of(path: str) -> Mount | None:
    """Return the mount that has the file at `path`, an absolute path without links."""
    here = os.fsencode(path)
    best: Mount | None = None
    for mount in read_mounts():
        inside = mount.point in {b"/", here} or here.startswith(mount.point + b"/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def unmount_all(path: str) -> bool:
    """Remove all mounts at `path`. A mount in use ends with its last user.

    Returns:
        Whether there was a mount.
    """
    found = False
    while is_mount_point(path):
        try:
            if not syscalls.unmount(path):
                return found
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            syscalls.unmount(path, lazy=True)
        found = True
    return found


def unmount_below(path: str) -> bool:
    """Remove all mounts below a directory, the latest first; return whether there was one."""
    prefix = os.fsencode(path) + b"/"
    found = [mount.point for mount in read_mounts() if mount.point.startswith(prefix)]
    for point in reversed(found):
        syscalls.unmount(os.fsdecode(point), lazy=True)
    return bool(found)


def _plain(escaped: bytes) -> bytes:
    return re.sub(_ESCAPED, lambda digits: bytes([int(digits[1], 8)]), escaped)
