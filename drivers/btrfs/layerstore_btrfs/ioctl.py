"""The ioctls of btrfs that the driver needs, as Linux declares them in `include/uapi/linux/btrfs.h`.

Every function takes a descriptor of a directory on a btrfs file system, and raises `OSError` with the kernel's error
number.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
_libc.ioctl.restype = ctypes.c_int

_MAGIC: Final = 0x94
# include/uapi/asm-generic/ioctl.h, and the architectures that have other numbers for the directions.
_OWN_DIRECTIONS: Final = platform.machine().startswith(("ppc", "mips", "sparc", "alpha"))
_NONE, _WRITE, _READ = (1, 4, 2) if _OWN_DIRECTIONS else (0, 1, 2)
_DIRECTION_SHIFT: Final = 29 if _OWN_DIRECTIONS else 30


def request(direction: int, number: int, size: int) -> int:
    """Return the request number of an ioctl of btrfs.

    Args:
        direction: how the argument is used: read, written or both.
        number: the ordinal of the ioctl.
        size: the size of the argument in bytes.
    """
    return direction << _DIRECTION_SHIFT | size << 16 | _MAGIC << 8 | number


_VOL_ARGS_V1: Final = struct.Struct("=q4088s")  # fd, name
_VOL_ARGS_V2: Final = struct.Struct("=qQQ32x4040s")  # fd, transid, flags, (qgroups to inherit), name
_VOL_ARGS_BY_ID: Final = struct.Struct("=qQQ32xQ4032x")  # the same, with a subvolume's ID for the name
_SUBVOL_INFO: Final = struct.Struct("=Q256sQQQQ16s16s16sQQQQ16xQI4x32x64x")
_FS_INFO: Final = struct.Struct("=QQ16sIII916x64x")
_SEARCH_KEY: Final = struct.Struct("=QQQQQQQIIII32x")
_QUOTA_CTL: Final = struct.Struct("=QQ")
_RESCAN: Final = struct.Struct("=QQ48x")
_QGROUP_LIMIT: Final = struct.Struct("=QQQQQQ")  # qgroup, flags, max_rfer, max_excl, rsv_rfer, rsv_excl
_QGROUP_CREATE: Final = struct.Struct("=QQ")
_U64: Final = struct.Struct("=Q")

_SYNC: Final = request(_NONE, 8, 0)
_SNAP_DESTROY: Final = request(_WRITE, 15, _VOL_ARGS_V1.size)
_TREE_SEARCH_V2: Final = request(_READ | _WRITE, 17, _SEARCH_KEY.size + _U64.size)
_SNAP_CREATE_V2: Final = request(_WRITE, 23, _VOL_ARGS_V2.size)
_SUBVOL_CREATE_V2: Final = request(_WRITE, 24, _VOL_ARGS_V2.size)
_SUBVOL_GETFLAGS: Final = request(_READ, 25, _U64.size)
_SUBVOL_SETFLAGS: Final = request(_WRITE, 26, _U64.size)
_FS_INFO_REQUEST: Final = request(_READ, 31, _FS_INFO.size)
_QUOTA_CTL_REQUEST: Final = request(_READ | _WRITE, 40, _QUOTA_CTL.size)
_QGROUP_CREATE_REQUEST: Final = request(_WRITE, 42, _QGROUP_CREATE.size)
_QGROUP_LIMIT_REQUEST: Final = request(_READ, 43, _QGROUP_LIMIT.size)
_QUOTA_RESCAN: Final = request(_WRITE, 44, _RESCAN.size)
_QUOTA_RESCAN_WAIT: Final = request(_NONE, 46, 0)
_GET_SUBVOL_INFO: Final = request(_READ, 60, _SUBVOL_INFO.size)
_SNAP_DESTROY_V2: Final = request(_WRITE, 63, _VOL_ARGS_V2.size)

_SUBVOL_RDONLY: Final = 1 << 1
_SUBVOL_SPEC_BY_ID: Final = 1 << 4
_QUOTA_CTL_ENABLE: Final = 1
_QUOTA_CTL_ENABLE_SIMPLE: Final = 4
_LIMIT_MAX_RFER: Final = 1 << 0
_NAME_MAX: Final = 255

#: The errors of a file system that does not know an ioctl.
UNKNOWN_IOCTL: Final = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


@dataclass(frozen=True, slots=True)
class SubvolumeInfo:
    """The identity of a subvolume, and when it was created.

    Attributes:
        tree_id: the ID of its tree, which is also the ID of the subvolume and of its quota group.
        uuid: its own UUID.
        parent_uuid: the UUID of the subvolume that it is a snapshot of; zeros if it is no snapshot.
        created: the transaction that made it (`otransid`). Data that a snapshot shares with its parent are from this
            transaction or an older one. A change of either is newer.
        created_ns: the time of that transaction, in nanoseconds since the epoch.
    """

    tree_id: int
    uuid: bytes
    parent_uuid: bytes
    created: int
    created_ns: int


@dataclass(frozen=True, slots=True)
class FilesystemInfo:
    """A btrfs file system.

    Attributes:
        fsid: its UUID, with hyphens.
        devices: the number of its devices.
        nodesize: the size of tree blocks in bytes.
        sectorsize: the size of sectors in bytes.
    """

    fsid: str
    devices: int
    nodesize: int
    sectorsize: int


def subvol_create(directory: int, name: bytes) -> None:
    """Make an empty subvolume `name` in a directory."""
    _call(directory, _SUBVOL_CREATE_V2, bytearray(_VOL_ARGS_V2.pack(0, 0, 0, _checked(name))))


def snap_create(directory: int, name: bytes, source: int) -> None:
    """Make a writable snapshot `name` in a directory, of the subvolume whose descriptor is `source`.

    The kernel first writes the source's changes that are only in memory, and commits a transaction.
    """
    _call(directory, _SNAP_CREATE_V2, bytearray(_VOL_ARGS_V2.pack(source, 0, 0, _checked(name))))


def snap_destroy(directory: int, name: bytes) -> None:
    """Delete the subvolume `name` in a directory. It must have no other subvolume inside."""
    _call(directory, _SNAP_DESTROY, bytearray(_VOL_ARGS_V1.pack(0, _checked(name))))


def snap_destroy_by_id(directory: int, subvolume_id: int) -> None:
    """Delete a subvolume on the file system of `directory` by its ID. Needs Linux 5.7."""
    _call(directory, _SNAP_DESTROY_V2, bytearray(_VOL_ARGS_BY_ID.pack(0, 0, _SUBVOL_SPEC_BY_ID, subvolume_id)))


def is_read_only(subvolume: int) -> bool:
    """Return whether a subvolume is marked read-only."""
    argument = bytearray(_U64.size)
    _call(subvolume, _SUBVOL_GETFLAGS, argument)
    return bool(_U64.unpack(argument)[0] & _SUBVOL_RDONLY)


def set_read_only(subvolume: int, read_only: bool) -> None:
    """Mark a subvolume as read-only, or remove the mark."""
    _call(subvolume, _SUBVOL_SETFLAGS, bytearray(_U64.pack(_SUBVOL_RDONLY if read_only else 0)))


def subvol_info(directory: int) -> SubvolumeInfo:
    """Return information about the subvolume that a directory is in. Needs Linux 4.18."""
    argument = bytearray(_SUBVOL_INFO.size)
    _call(directory, _GET_SUBVOL_INFO, argument)
    (
        tree_id,
        _name,
        _parent,
        _dir,
        _generation,
        _flags,
        uuid,
        parent_uuid,
        _,
        _ctransid,
        otransid,
        _,
        _,
        seconds,
        nanoseconds,
    ) = _SUBVOL_INFO.unpack(argument)
    return SubvolumeInfo(tree_id, uuid, parent_uuid, otransid, seconds * 10**9 + nanoseconds)


def fs_info(directory: int) -> FilesystemInfo:
    """Return information about the file system.

    Raises:
        OSError: with an error number in `UNKNOWN_IOCTL` if the file system is not btrfs.
    """
    argument = bytearray(_FS_INFO.size)
    _call(directory, _FS_INFO_REQUEST, argument)
    _max_id, devices, fsid, nodesize, sectorsize, _ = _FS_INFO.unpack(argument)
    text = fsid.hex()
    return FilesystemInfo(
        "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])), devices, nodesize, sectorsize
    )


def sync(directory: int) -> None:
    """Write all changes in memory to the file system, and commit: its trees then have every change made before."""
    _call(directory, _SYNC, None)


def tree_search(
    directory: int,
    tree: int,
    first: tuple[int, int, int],
    last: tuple[int, int, int],
    *,
    min_transaction: int,
    buffer: bytearray,
) -> int:
    """Fill `buffer` with items of a tree, each with its header, and return how many there are. Needs CAP_SYS_ADMIN.

    Args:
        directory: a directory on the file system.
        tree: the tree's ID; 0 means the tree of the subvolume that `directory` is in.
        first: the lowest key (object, type, offset) to return.
        last: the highest.
        min_transaction: leave out items in tree blocks that were written before this transaction. The
            kernel does not read those blocks.
        buffer: the buffer. The items begin after a preamble of `SEARCH_PREAMBLE` bytes.
    """
    _SEARCH_KEY.pack_into(
        buffer, 0,
        tree, first[0], last[0], first[2], last[2], min_transaction, 2**64 - 1, first[1], last[1], 2**32 - 1, 0,
    )  # fmt: skip
    _U64.pack_into(buffer, _SEARCH_KEY.size, len(buffer) - SEARCH_PREAMBLE)
    _call(directory, _TREE_SEARCH_V2, buffer)
    count: int = _SEARCH_KEY.unpack_from(buffer)[9]
    return count


SEARCH_PREAMBLE: Final = _SEARCH_KEY.size + _U64.size


def quota_enable(directory: int, *, simple: bool = False) -> None:
    """Switch quota on for the file system. The kernel then counts all existing data in the background.

    Args:
        directory: a directory on the file system.
        simple: count only data that are written from now on (Linux 6.7).
    """
    command = _QUOTA_CTL_ENABLE_SIMPLE if simple else _QUOTA_CTL_ENABLE
    _call(directory, _QUOTA_CTL_REQUEST, bytearray(_QUOTA_CTL.pack(command, 0)))


def quota_rescan(directory: int) -> None:
    """Start to count all data again.

    Raises:
        OSError: with `EINPROGRESS` if a count is running.
    """
    _call(directory, _QUOTA_RESCAN, bytearray(_RESCAN.size))


def quota_rescan_wait(directory: int) -> None:
    """Wait for the end of a running count, if there is one."""
    _call(directory, _QUOTA_RESCAN_WAIT, None)


def qgroup_limit(subvolume: int, size: int) -> None:
    """Limit the data that a subvolume refers to, including shared data, to `size` bytes."""
    _call(subvolume, _QGROUP_LIMIT_REQUEST, bytearray(_QGROUP_LIMIT.pack(0, _LIMIT_MAX_RFER, size, 0, 0, 0)))


def qgroup_remove(directory: int, qgroup: int) -> None:
    """Remove a quota group."""
    _call(directory, _QGROUP_CREATE_REQUEST, bytearray(_QGROUP_CREATE.pack(0, qgroup)))


def _checked(name: bytes) -> bytes:
    """Return a name if it is not too long: the kernel would truncate it without an error."""
    if len(name) > _NAME_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    return name


def _call(fd: int, number: int, argument: bytearray | None) -> None:
    # Not fcntl.ioctl: with arguments of more than 1 KiB it does not release the GIL, and a snapshot waits for the disk.
    pointer = None if argument is None else (ctypes.c_char * len(argument)).from_buffer(argument)
    while _libc.ioctl(fd, number, pointer) < 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
