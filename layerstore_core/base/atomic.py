"""Writing small files so that no name ever refers to an incomplete one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.replace_file import naming

FILE_MODE = 0o644
#: The start of the names of files, of ours and of Docker's, that were not moved to their places yet.
PARTIAL: Final = ".tmp-"
_RENAME_EXCHANGE: Final = 2


def write_file(path: Path, content: bytes) -> None:
    """Write a new file with mode 0644, like Docker's files, regardless of the umask.

    Raises:
        FileExistsError: the name is taken.
        OSError: the file cannot be written. The caller must remove the incomplete file with its directory.
    """
    inside.write(path, content, FILE_MODE, new=True)


@contextmanager
def replacing(path: Path, *, durable: bool) -> Iterator[Path]:
    """Replace a file as a whole: yield another name in its directory, and move what the block makes there to `path`.

    A process that is killed leaves a file whose name begins with `PARTIAL`, at the most. The directory, and all above
    it, are made if they are missing. Errors have the name `path`.

    Args:
        path: the file, which may exist.
        durable: whether the new name must be on disk when the call returns. The block flushes the content.

    Raises:
        OSError: it cannot be written; what was at `path` is there as before.
    """
    import secrets

    make_directory(path.parent, 0o700, durable=durable)
    partial = path.parent / f"{PARTIAL}{secrets.token_hex(8)}"
    with naming(str(path)):  # an error of the removal, too
        try:
            yield partial
            inside.rename(partial, path)
        except BaseException:
            inside.unlink(partial, missing_ok=True)
            raise
    if durable:
        inside.flush(path.parent)


def replace_file(path: Path, content: bytes, mode: int = FILE_MODE, *, durable: bool) -> None:
    """Write a file, which may exist, whole or not at all; arguments and errors as for `replacing`."""
    with replacing(path, durable=durable) as partial:
        inside.write(partial, content, mode, new=True, durable=durable)


def exchange_names(one: Path, other: Path) -> None:
    """Exchange two names of one file system atomically: renameat2(2) with RENAME_EXCHANGE.

    Raises:
        OSError: a name is missing, or the file system does not support this.
    """
    import ctypes  # lazy: it takes 1.5 ms, and few calls need it

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
