"""Access to the regular files of one tree by the names that a tar has for them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import BinaryIO

from layerstore_core.tree.root import Root


class TreeFiles:
    """Regular files below a directory, opened by name. No name leads out of the directory. For one thread at a time.

    Implements `layerstore_core.FileGetter`.

    Args:
        root: the directory, or a descriptor of it.
        on_close: called once, when this object is closed.
    """

    def __init__(self, root: str | os.PathLike[str] | int, on_close: Callable[[], None] | None = None) -> None:
        self._root: Root | None = Root(root if isinstance(root, int) else os.fspath(root))
        self._on_close = on_close

    def open(self, name: bytes) -> BinaryIO:
        """Open the regular file `name` for reading, unbuffered.

        Raises:
            FileNotFoundError: there is no such file, or it is no regular file.
            NotADirectoryError: something on the way is no directory.
            ValueError: this object is closed.
        """
        return os.fdopen(self.open_fd(name), "rb", buffering=0)

    def open_fd(self, name: bytes) -> int:
        """Do what `open` does, but return a descriptor, which the caller has to close."""
        root = self._root
        if root is None:
            raise ValueError("these files are closed")
        if b"\0" in name:
            raise FileNotFoundError(errno.ENOENT, "no file has a name with a NUL")
        return root.open_file(name)

    @property
    def fd(self) -> int:
        """A descriptor of the directory.

        Raises:
            ValueError: this object is closed.
        """
        if self._root is None:
            raise ValueError("these files are closed")
        return self._root.fd

    def close(self) -> None:
        """Close the directories. A second call does nothing."""
        root, self._root = self._root, None
        if root is None:
            return
        try:
            root.close()
        finally:
            if self._on_close is not None:
                self._on_close()
