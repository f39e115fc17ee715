"""Getting data to disk before a name points to it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from layerstore_core.errors import while_doing


def flush_file_system(path: Path) -> None:
    """Write out all that the file system holding `path` has in memory: syncfs(2).

    One such call costs less than one fsync(2) for each of a layer's thousands of files.

    Raises:
        OSError: some data could not be written, in this call or since the last.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with while_doing(f"flushing the file system of {path}"):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if libc.syncfs(fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(path))
        finally:
            os.close(fd)
