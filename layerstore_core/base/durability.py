"""Getting data to disk before a name points to it."""

from __future__ import annotations

import ctypes
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from layerstore_core.base import inside
from layerstore_core.errors import while_doing


class FlushPoint:
    """A point in time from which on no failed write of some file systems goes unheard; to be used in a `with` statement.

    The kernel tells each failure of writing back once to every descriptor that was open by then. A descriptor that is
    opened only for flushing does not hear of one that another process has been told of in between.

    Args:
        paths: directories on the file systems; for one that is not there yet, the nearest above it counts.
    """

    def __init__(self, *paths: Path) -> None:
        self._opened = ExitStack()
        self._descriptors: dict[int, tuple[int, Path]] = {}
        try:
            for path in paths:
                self._watch(path)
        except BaseException:
            self._opened.close()
            raise

    def flush(self) -> None:
        """Write out all that the file systems have in memory: syncfs(2), once for each.

        One such call costs less than one fsync(2) for each of a layer's thousands of files.

        Raises:
            OSError: some data could not be written, in this call or since the point in time.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        for descriptor, path in self._descriptors.values():
            with while_doing(f"flushing the file system of {path}"):
                if libc.syncfs(descriptor) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _watch(self, path: Path) -> None:
        with while_doing(f"opening {path} to flush its file system"):
            try:
                descriptor = self._opened.enter_context(inside.open_directory(path))
            except FileNotFoundError:
                if path == path.parent:
                    raise
                self._watch(path.parent)
                return
        self._descriptors.setdefault(os.fstat(descriptor).st_dev, (descriptor, path))
