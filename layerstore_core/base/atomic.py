"""Writing small files so that no name ever refers to an incomplete one."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from layerstore_core.base import inside

FILE_MODE = 0o644
_RENAME_EXCHANGE: Final = 2


def write_file(path: Path, content: bytes) -> None:
    """Write a new file with mode 0644, like Docker's files, regardless of the umask.

    Raises:
        FileExistsError: the name is taken.
        OSError: the file cannot be written. The caller must remove the incomplete file with its directory.
    """
    inside.write(path, content, FILE_MODE, new=True)


def exchange_names(one: Path, other: Path) -> None:
    """Exchange two names of one file system atomically: renameat2(2) with RENAME_EXCHANGE.

    Raises:
        OSError: a name is missing, or the file system does not support this.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with inside.parent(one) as (parent, name), inside.parent(other) as (other_parent, other_name):
        if libc.renameat2(parent, os.fsencode(name), other_parent, os.fsencode(other_name), _RENAME_EXCHANGE):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(one), None, str(other))


def make_directory(path: Path, mode: int, *, durable: bool = False) -> None:
    """Make a directory and its parents, if they are missing, with a mode regardless of the umask.

    Args:
        path: the directory.
        mode: the mode of the directory and of each parent that is made.
        durable: whether the new names must be on disk when the call returns. To flush a directory does not guarantee
            that its own name is on disk. ext4, XFS and btrfs guarantee it, but according to fsync(2) it is the caller's
            task.
    """
    try:
        inside.open_directory(path).close()
        return
    except FileNotFoundError:
        make_directory(path.parent, mode, durable=durable)
    try:
        inside.mkdir(path, mode)
    except FileExistsError:
        inside.open_directory(path).close()
        return  # another process made it first, and sets the mode
    if durable:
        inside.flush(path.parent)
