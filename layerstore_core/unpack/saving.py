"""Saving of what a layer's files have, before the layer itself replaces or removes them."""

from __future__ import annotations

import os
import stat

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.nameset import NameSet
from layerstore_core.streams.saved import SavedPayloads
from layerstore_core.tree.root import Directory, Root

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileSaver:
    """Saver of one layer's own files.

    Args:
        tree: the tree that the layer is unpacked into.
        saved: where the contents go.
        touched: the paths that the layer has made.
        foreign: inodes of parent layers' files that the layer has linked to.
    """

    def __init__(self, tree: Root, saved: SavedPayloads, touched: NameSet, foreign: set[int]) -> None:
        self._tree = tree
        self._saved = saved
        self._touched = touched
        self._foreign = foreign
        #: Inodes that were saved and have other names: a layer could remove many links to one large file.
        self._linked: set[int] = set()

    def save(self, directory: Directory, base: bytes, status: os.stat_result) -> None:
        """Save a file, if it is the layer's own, or all its own files in a directory.

        Raises:
            InvalidLayer: there are more than is accepted.
            OSError: they cannot be read or saved.
        """
        path = directory.join(base)
        if stat.S_ISREG(status.st_mode):
            if path in self._touched:
                self.save_file(directory, base, status)
            return
        pending = [path] if stat.S_ISDIR(status.st_mode) else []
        names_left: dict[int, int] = {}  # by inode of a file with several names: how many of them are elsewhere
        while pending:
            here = self._tree.enter(pending.pop())
            with self._tree.pinned(here):
                for name in here.names():
                    inner = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
                    path = here.join(name)
                    if stat.S_ISDIR(inner.st_mode):
                        pending.append(path)
                    elif stat.S_ISREG(inner.st_mode) and path in self._touched:
                        self.save_file(here, name, inner)
                        if inner.st_nlink > 1:
                            names_left[inner.st_ino] = names_left.get(inner.st_ino, inner.st_nlink) - 1
        self._linked.difference_update(inode for inode, left in names_left.items() if left <= 0)

    def save_file(self, directory: Directory, base: bytes, status: os.stat_result) -> None:
        """Save the content of a file that this layer has made."""
        inode = status.st_ino
        if not status.st_size or inode in self._foreign:
            return
        if status.st_nlink > 1:
            if inode in self._linked:
                return
            self._linked.add(inode)
        elif inode in self._linked:
            self._linked.discard(inode)  # its last name goes, and another file may get its number
            return
        with Descriptor(os.open, base, _FLAGS, dir_fd=directory.fd) as descriptor:
            self._saved.add(descriptor)
