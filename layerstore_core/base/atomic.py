"""Writing small files so that a name never stands for half of one."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from layerstore_core.base import inside

FILE_MODE = 0o644
_RENAME_EXCHANGE: Final = 2


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, mode 0644 whatever the umask says, as Docker's are.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be written; what there is of it, the caller removes with its directory.
    """
    inside.write(path, content, FILE_MODE, new=True)


def exchange_names(one: Path, other: Path) -> None:
    """Exchange what two names of one file system stand for: renameat2(2) with RENAME_EXCHANGE.

    Raises:
        OSError: one is missing, or the file system does not know how to.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with inside.parent(one) as (above, name), inside.parent(other) as (other_above, other_name):
        if libc.renameat2(above, os.fsencode(name), other_above, os.fsencode(other_name), _RENAME_EXCHANGE):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(one), None, str(other))


def make_directory(path: Path, mode: int, *, durable: bool = False) -> None:
    """Make a directory and its parents, all with `mode` whatever the umask says, where they are missing.

    Args:
        durable: whether the new names are on disk when the call returns. That a directory was flushed does not
            promise its own name: ext4, XFS and btrfs see to it by themselves, fsync(2) has it the caller's task.
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
        return  # another process was faster, and sees to the mode
    if durable:
        inside.flush(path.parent)
