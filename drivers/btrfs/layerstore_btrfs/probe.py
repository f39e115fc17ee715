"""Checks whether the driver can work in a directory. Errors have the reason and the remedy."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Final

from layerstore_btrfs import ioctl, subvolumes
from layerstore_core.errors import DriverNotSupported

_TRIAL: Final = ".layerstore-btrfs-probe-"
_REMEDY: Final = "put the store's root on a btrfs file system (mkfs.btrfs, mount), or choose another driver"


def require_btrfs(directory: Path) -> None:
    """Check that a directory is on btrfs.

    Raises:
        DriverNotSupported: it is not btrfs.
    """
    with subvolumes.opened(os.path.realpath(directory)) as fd:
        try:
            ioctl.fs_info(fd)
        except OSError as error:
            if error.errno not in ioctl.UNKNOWN_IOCTL:
                error.filename = os.fspath(directory)
                raise
            raise DriverNotSupported(f"{directory} is on {filesystem_type(directory)}, not btrfs; {_REMEDY}") from None


def try_out(directory: Path) -> None:
    """Make a subvolume and a snapshot of it, and delete both.

    Raises:
        DriverNotSupported: one of these operations failed.
    """
    names = [(_TRIAL + secrets.token_hex(8)).encode() for _ in range(2)]
    with subvolumes.opened(os.path.realpath(directory)) as fd:
        try:
            try:
                ioctl.subvol_create(fd, names[0])
                subvolumes.snapshot(os.path.join(os.fsencode(directory), names[0]), fd, names[1])
            finally:
                for name in reversed(names):
                    subvolumes.delete(fd, name)
        except OSError as error:
            raise DriverNotSupported(_refusal(directory, error)) from error


def _refusal(directory: Path, error: OSError) -> str:
    if error.errno == errno.EROFS:
        return f"the btrfs file system at {directory} is mounted read-only; mount it for writing (mount -o remount,rw)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"this user (uid {os.geteuid()}) may not make and delete subvolumes in {directory} ({error.strerror}); "
            "run as root, or choose a root directory that the user owns"
        )
    return f"subvolumes cannot be made and deleted in {directory}: {error.strerror}"


def filesystem_type(directory: Path) -> str:
    """Return the type of a directory's file system, from /proc/self/mountinfo."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index("-") + 1]
    except OSError:
        pass  # no /proc: the name is for a message only
    return "another file system"
