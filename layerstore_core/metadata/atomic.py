"""Writing small files so that a name never stands for half of one."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

from layerstore_core.descriptors import Descriptor

FILE_MODE = 0o644
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


def write_file(path: Path, content: bytes) -> None:
    """Write a new file, mode 0644 whatever the umask says, as Docker's are.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be written; what there is of it, the caller removes with its directory.
    """
    try:
        with open(path, "xb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(content)
    except OSError as error:
        error.filename = str(path)
        raise


def flush(path: Path) -> None:
    """Make a file's content, or a directory's names, durable: fsync(2)."""
    with Descriptor(os.open, path, os.O_RDONLY | os.O_CLOEXEC) as fd:
        try:
            os.fsync(fd)
        except OSError as error:
            error.filename = str(path)
            raise


def exchange_names(one: Path, other: Path) -> None:
    """Exchange what two names of one file system stand for: renameat2(2) with RENAME_EXCHANGE.

    Raises:
        OSError: one is missing, or the file system does not know how to.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(one), None, str(other))


def make_directory(path: Path, mode: int, *, durable: bool = False) -> None:
    """Make a directory and its parents, all with `mode` whatever the umask says, where they are missing.

    Args:
        durable: whether the new names are on disk when the call returns. That a directory was flushed does not
            promise its own name: ext4, XFS and btrfs see to it by themselves, fsync(2) has it the caller's task.
    """
    if path.is_dir():
        return
    make_directory(path.parent, mode, durable=durable)
    try:
        path.mkdir(mode)
    except FileExistsError:
        if not path.is_dir():
            raise
        return  # another process was faster, and sees to the mode
    path.chmod(mode)
    if durable:
        flush(path.parent)
