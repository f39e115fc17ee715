"""Size limits of single layers, by project quota of the file system (ext4 and xfs).

Each limited layer has a project of its own. The layer's directory, and each file made in it, belong to the project, and
the file system limits the project. Source: Linux, `include/uapi/linux/fs.h` (fsxattr) and `dqblk_xfs.h`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from typing import Final

from layerstore_core.sdk import inside
from layerstore_overlay import syscalls
from layerstore_overlay.mounts import mount_of

_FS_IOC_FSGETXATTR: Final = 0x801C581F
_FS_IOC_FSSETXATTR: Final = 0x401C5820
#: xflags, extsize, nextents, projid, cowextsize, padding
_FSXATTR: Final = struct.Struct("=IIIII8s")
_XFLAG_PROJINHERIT: Final = 0x200

_QUOTACTL_FD: Final = 443
_PRJQUOTA: Final = 2
_Q_XGETQUOTA: Final = (ord("X") << 8) + 3
_Q_XSETQLIM: Final = (ord("X") << 8) + 4
_Q_XGETQSTAT: Final = (ord("X") << 8) + 5
#: struct fs_disk_quota: version, flags, field mask, ID; block hard and soft limits; the rest
_DISK_QUOTA: Final = struct.Struct("=bbHIQQ88x")
_DISK_QUOTA_VERSION: Final = 1
_PROJECT_QUOTA_FLAG: Final = 2
_BLOCK_LIMITS: Final = 1 << 2 | 1 << 3
#: Flags: accounting and enforcement of project quota are on.
_PROJECT_QUOTA_ON: Final = 1 << 4 | 1 << 5
#: The unit of quota in bytes, independent of the file system's block size.
_BLOCK: Final = 512
#: The smallest project ID that is used here. Administrators use small numbers.
_FIRST_PROJECT: Final = 1 << 20


class ProjectQuota:
    """Size limits for directories on the file system of `home`.

    Args:
        home: an absolute path without links.
    """

    def __init__(self, home: str) -> None:
        self._home = home

    def unavailable(self) -> str | None:
        """Return why there is no project quota here, as a sentence; `None` if there is."""
        state = ctypes.create_string_buffer(256)
        try:
            self._quotactl(_Q_XGETQSTAT, 0, state)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            # struct fs_quota_stat: the flags are its second member.
            if int.from_bytes(state.raw[2:4], "little") & _PROJECT_QUOTA_ON == _PROJECT_QUOTA_ON:
                return None
            reason = "project quota is off"
        mount = mount_of(self._home)
        where = f"{mount.file_system} at {os.fsdecode(mount.point)}" if mount else self._home
        return (
            f"{where} has no project quota ({reason}); use ext4 made with `mkfs.ext4 -O quota,project`, or xfs, "
            "mounted with the option `prjquota`"
        )

    def limit(self, directory: str, size: int) -> None:
        """Limit the files that will be made in an empty directory to `size` bytes together.

        Raises:
            OSError: the file system refuses.
        """
        project = self._unused_project()
        self._set_limit(project, size)
        try:
            _set_project(directory, project)
        except BaseException:
            self._set_limit(project, 0)
            raise

    def release(self, directory: str) -> None:
        """Remove the limit of a directory, so that its project ID is free again."""
        try:
            project = _project(directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOTDIR):
                return
            raise
        if project >= _FIRST_PROJECT:
            self._set_limit(project, 0)

    def _unused_project(self) -> int:
        # Random, and not the next number: so processes need not agree on one.
        for _ in range(64):
            import secrets  # lazy: for layers with a limit of their size

            project = _FIRST_PROJECT + secrets.randbelow((1 << 32) - _FIRST_PROJECT - 1)
            quota = ctypes.create_string_buffer(_DISK_QUOTA.size)
            try:
                self._quotactl(_Q_XGETQUOTA, project, quota)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return project
                raise
            # The numbers of blocks and files in use follow the limits.
            if not any(quota.raw[8:56]):
                return project
        raise OSError(errno.ENOSPC, "no unused project ID was found for a layer's size limit", self._home)

    def _set_limit(self, project: int, size: int) -> None:
        blocks = -(-size // _BLOCK)
        quota = ctypes.create_string_buffer(
            _DISK_QUOTA.pack(_DISK_QUOTA_VERSION, _PROJECT_QUOTA_FLAG, _BLOCK_LIMITS, project, blocks, blocks),
            _DISK_QUOTA.size,
        )
        self._quotactl(_Q_XSETQLIM, project, quota)

    def _quotactl(self, command: int, project: int, data: ctypes.Array[ctypes.c_char]) -> None:
        command = command << 8 | _PRJQUOTA
        try:
            with inside.open_directory(self._home) as fd:
                syscalls.system_call(_QUOTACTL_FD, fd, command, project, data)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                error.filename = self._home
                raise
            mount = mount_of(self._home)
            syscalls.quotactl(command, mount.source if mount else b"", project, data)


def _project(directory: str) -> int:
    return _get_fsxattr(directory)[3]


def _set_project(directory: str, project: int) -> None:
    flags, extent_size, extents, _, cow_extent_size = _get_fsxattr(directory)
    new = _FSXATTR.pack(flags | _XFLAG_PROJINHERIT, extent_size, extents, project, cow_extent_size, bytes(8))
    with inside.open_directory(directory) as fd:
        fcntl.ioctl(fd, _FS_IOC_FSSETXATTR, new)


def _get_fsxattr(directory: str) -> tuple[int, int, int, int, int]:
    with inside.open_directory(directory) as fd:
        found = _FSXATTR.unpack(fcntl.ioctl(fd, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))
    return found[0], found[1], found[2], found[3], found[4]
