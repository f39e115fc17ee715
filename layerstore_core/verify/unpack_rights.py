"""Which metadata could be set when a layer was unpacked. What could not be set is not reported as missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.tree.access_lists import DEFAULT
from layerstore_core.tree.xattrs import read_xattrs

#: How many user IDs the first user namespace maps.
_ALL_IDS: Final = (1 << 32) - 1
#: Capabilities without which unpacking leaves something out: CAP_CHOWN, CAP_SYS_ADMIN, CAP_MKNOD, CAP_SETFCAP.
_CAPABILITIES: Final = sum(1 << number for number in (0, 21, 27, 31))


class UnpackRights:
    """The rights with which a store's layers were unpacked.

    Args:
        home: the driver's directory. If an ordinary user owns it, that user unpacked its layers.
        lossy_copies: inherited files may be copies that Docker made. Of extended attributes, these have capabilities
            only.

    Attributes:
        limited: some metadata that a tar asks for could not be set.
        inherited_lists: new files get access lists that no tar asks for, from the directory in which they are made.

    Raises:
        BadRecord, OSError: the directory cannot be opened.
    """

    def __init__(self, home: str | Path, *, lossy_copies: bool = False) -> None:
        self.lossy_copies = lossy_copies
        with inside.open_directory(home) as fd:
            self.limited = os.fstat(fd).st_uid != 0 or not _has_all_rights()
            self.inherited_lists = DEFAULT in read_xattrs(fd)


def _has_all_rights() -> bool:
    """Return whether this process could set all metadata that a tar asks for."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            first, _, count = map(int, file.readline().split())
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    except (OSError, ValueError, StopIteration):
        return os.geteuid() == 0
    return first == 0 and count >= _ALL_IDS and effective & _CAPABILITIES == _CAPABILITIES
