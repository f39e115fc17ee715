"""Limits on what a subvolume may hold, by btrfs's quota groups.

Every subvolume has a group of its own, `0/<ID>`. Its limit counts what the subvolume refers to: the
files that it shares with the image below it are counted too, as with Docker.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from layerstore_btrfs import ioctl, search
from layerstore_core.errors import DriverNotSupported

if TYPE_CHECKING:
    from loguru import Logger

_STATUS: Final = struct.Struct("=QQQQ")  # version, generation, flags, rescan
_ON: Final = 1 << 0
_RESCANNING: Final = 1 << 1
_INCONSISTENT: Final = 1 << 2
_SIMPLE: Final = 1 << 3


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """What a file system says of its quota.

    Attributes:
        enabled: it is counted.
        rescanning: the counting of what was there before is under way.
        inconsistent: the counts are off until everything has been counted anew.
        simple: only what was written since is counted, for the subvolume that wrote it first (Linux 6.7).
    """

    enabled: bool
    rescanning: bool = False
    inconsistent: bool = False
    simple: bool = False

    def __str__(self) -> str:
        if not self.enabled:
            return "disabled"
        words = ["enabled"]
        words += [word for word in ("simple", "rescanning", "inconsistent") if getattr(self, word)]
        return ", ".join(words)


def status(directory: int) -> QuotaStatus:
    """The state of quota on the file system of `directory`.

    Raises:
        PermissionError: the caller lacks CAP_SYS_ADMIN.
    """
    key = (0, search.QGROUP_STATUS, 0)
    try:
        found = next(search.items(directory, search.QUOTA_TREE, key, key), None)
    except FileNotFoundError:
        found = None
    if found is None:
        return QuotaStatus(enabled=False)
    flags = _STATUS.unpack_from(found.data)[2]
    return QuotaStatus(
        bool(flags & _ON), bool(flags & _RESCANNING), bool(flags & _INCONSISTENT), simple=bool(flags & _SIMPLE)
    )


def limit(subvolume: int, size: int, logger: Logger) -> None:
    """Let a subvolume hold `size` bytes at most, switching quota on if need be.

    Args:
        subvolume: a descriptor of its root.
        size: bytes.
        logger: told before what takes long on a large file system.

    Raises:
        DriverNotSupported: the user may not set limits, or the kernel has no quota.
    """
    try:
        _make_ready(subvolume, logger)
        ioctl.qgroup_limit(subvolume, size)
    except PermissionError as error:
        raise DriverNotSupported(
            "a size limit on btrfs needs the rights of root on the machine (CAP_SYS_ADMIN in the first user "
            "namespace); run as root, or leave the storage option `size` out"
        ) from error
    except OSError as error:
        if error.errno in ioctl.UNKNOWN_IOCTL | {errno.ENOTCONN}:
            raise DriverNotSupported(
                f"quota cannot be used on this btrfs file system ({error.strerror}); "
                "see whether `btrfs quota enable` works there, or leave the storage option `size` out"
            ) from error
        raise


def forget(directory: int, subvolume_id: int, logger: Logger) -> None:
    """Drop the quota group of a subvolume that was deleted, where the kernel has not or will not do that itself.

    Linux 6.11 and later do, once the subvolume's data are gone, and refuse until then.
    """
    try:
        ioctl.qgroup_remove(directory, subvolume_id)
    except OSError as error:
        logger.debug(f"quota group 0/{subvolume_id} is left to the kernel: {error.strerror}")


def _make_ready(directory: int, logger: Logger) -> None:
    """See to it that quota is on, and its counts right."""
    state = status(directory)
    if not state.enabled:
        logger.info("switching quota on for the btrfs file system; what is there is counted first")
        ioctl.quota_enable(directory)
    elif state.inconsistent and not state.rescanning:
        logger.info("the quota counts of the btrfs file system are off; counting anew")
        try:
            ioctl.quota_rescan(directory)
        except OSError as error:
            # Simple quota is never counted anew; somebody else may have started to count.
            if error.errno not in (errno.EINPROGRESS, errno.EINVAL):
                raise
    elif not state.rescanning:
        return
    ioctl.quota_rescan_wait(directory)
