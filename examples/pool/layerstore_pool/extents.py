"""Reflinks: files that share the blocks of their content on disk (btrfs, XFS). Each has metadata of its own."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

#: From `linux/fs.h`: `_IOW(0x94, 9, int)` and `_IOWR('f', 11, struct fiemap)`.
_FICLONE: Final = 0x40049409
_FS_IOC_FIEMAP: Final = 0xC020660B
#: From `linux/fiemap.h`: the two structures, and the flag of an extent that another file has, too.
_FIEMAP: Final = struct.Struct("=QQLLLL")
_EXTENT: Final = struct.Struct("=QQQQQLLLL")
_SHARED: Final = 0x2000
#: How many extents of a file are looked at.
_MOST: Final = 64


def clone(source: int, target: int) -> None:
    """Share the content of an open file with another one, which is open for writing, and empty.

    Raises:
        OSError: the file system cannot do this.
    """
    fcntl.ioctl(target, _FICLONE, source)


def can_clone(directory: Path) -> bool:
    """Return whether the file system of a directory has reflinks."""
    import tempfile

    with tempfile.TemporaryFile(dir=directory) as source, tempfile.TemporaryFile(dir=directory) as target:
        source.write(bytes(1 << 16))
        source.flush()
        try:
            clone(source.fileno(), target.fileno())
        except OSError:
            return False
        return True


def shares_extents(fd: int) -> bool:
    """Return whether an open file has blocks that another file has, too: its first extents are looked at."""
    request = bytearray(_FIEMAP.size + _MOST * _EXTENT.size)
    _FIEMAP.pack_into(request, 0, 0, os.fstat(fd).st_size, 0, 0, _MOST, 0)
    try:
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, request)
    except OSError:
        return False  # this file system does not tell, and so has no reflinks
    count = _FIEMAP.unpack_from(request)[3]
    extents = (_EXTENT.unpack_from(request, _FIEMAP.size + index * _EXTENT.size) for index in range(count))
    return any(extent[5] & _SHARED for extent in extents)
