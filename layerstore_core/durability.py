"""Getting data to disk before a name points to it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from layerstore_core.errors import while_doing


def flush_file_systems(*paths: Path) -> None:
    """Write out all that the file systems of these directories have in memory: syncfs(2), once for each.

    One such call costs less than one fsync(2) for each of a layer's thousands of files.

    Raises:
        OSError: some data could not be written, in this call or since the last.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    done: set[int] = set()
    for path in paths:
        with while_doing(f"flushing the file system of {path}"):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                device = os.fstat(fd).st_dev
                if device not in done and libc.syncfs(fd) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), str(path))
                done.add(device)
            finally:
                os.close(fd)
