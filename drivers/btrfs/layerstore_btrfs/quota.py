"""Size limits of subvolumes, by btrfs's quota groups.

Every subvolume has a quota group of its own, `0/<ID>`. The limit applies to all data that the subvolume refers to. So
files that it shares with its image count, too, as in Docker.
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
    """The state of a file system's quota.

    Attributes:
        enabled: quota is on.
        rescanning: existing data are being counted.
        inconsistent: the counts are wrong until everything was counted again.
        simple: only data written since quota was switched on are counted, for the subvolume that wrote them first
            (Linux 6.7).
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
    """Return the state of quota on the file system of `directory`.

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
    """Limit the size of a subvolume; switch quota on if needed.

    Args:
        subvolume: a descriptor of its root.
        size: the limit in bytes.
        logger: gets a message before operations that take long on a large file system.

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
                "check whether `btrfs quota enable` works there, or leave the storage option `size` out"
            ) from error
        raise


def remove_group(directory: int, subvolume_id: int, logger: Logger) -> None:
    """Remove the quota group of a deleted subvolume, unless the kernel does that itself.

    Linux 6.11 and later remove it when the subvolume's data are gone, and refuse until then. A refusal is only logged.
    """
    try:
        ioctl.qgroup_remove(directory, subvolume_id)
    except OSError as error:
        logger.debug(f"quota group 0/{subvolume_id} is left to the kernel: {error.strerror}")


def _make_ready(directory: int, logger: Logger) -> None:
    """Switch quota on if it is off, and wait until its counts are right."""
    state = status(directory)
    if not state.enabled:
        logger.info("switching quota on for the btrfs file system; existing data are counted first")
        ioctl.quota_enable(directory)
    elif state.inconsistent and not state.rescanning:
        logger.info("the quota counts of the btrfs file system are wrong; counting again")
        try:
            ioctl.quota_rescan(directory)
        except OSError as error:
            # EINVAL: simple quota is never counted again. EINPROGRESS: another process has started the count.
            if error.errno not in (errno.EINPROGRESS, errno.EINVAL):
                raise
    elif not state.rescanning:
        return
    ioctl.quota_rescan_wait(directory)
