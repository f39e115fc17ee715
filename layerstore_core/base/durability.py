"""Flushing data to disk before a name refers to it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from layerstore_core.base import inside
from layerstore_core.errors import while_doing


class FlushPoint:
    """A set of file systems, opened so that `flush` reports every write error since then; a context manager.

    The kernel reports each write-back error once to every descriptor that was open at that time. If a descriptor were
    opened only to flush, it would miss an error that was reported to another process before.

    Args:
        paths: directories on the file systems. If one does not exist yet, its nearest existing parent is used.
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
        """Write all cached data of the file systems to disk: syncfs(2), once for each file system.

        One such call costs less than one fsync(2) for each of a layer's thousands of files.

        Raises:
            OSError: some data could not be written, in this call or since this object was made.
        """
        import ctypes  # lazy: stores that need not survive a power cut flush nothing

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
