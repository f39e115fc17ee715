"""Removal of files that a layer being unpacked replaces, with a count of the layer's own bytes that this removes."""

from __future__ import annotations

import os
import stat

from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tree.remove import remove_tree
from layerstore_core.tree.root import Directory, Root
from layerstore_core.unpack.saving import FileSaver


class Replacer:
    """Remover of the files that one layer replaces or deletes.

    Args:
        tree: the tree that the layer is unpacked into.
        diff: the layer. Its `displaced` is set if a file of its own may be gone, on whose content its tar-split lines
            rely.

    Attributes:
        freed: bytes of the layer's own size that were removed again.
        foreign: inodes of parent layers' files that this layer has linked to: their content is not this layer's own.
    """

    def __init__(self, tree: Root, diff: LayerStream) -> None:
        self._tree = tree
        self._diff = diff
        self._touched = diff.touched
        self.freed = 0
        self.foreign: set[int] = set()
        saved = diff.save_payloads()
        self._saver = None if saved is None else FileSaver(tree, saved, diff.touched, self.foreign)

    def clear(self, directory: Directory, base: bytes, *, is_parents: bool = False) -> None:
        """Remove the file or directory of a name.

        Args:
            directory: the directory that has it; pinned.
            base: its name there.
            is_parents: it is known that neither it nor what is below it comes from this layer.

        Raises:
            FileNotFoundError: there is none.
        """
        status = os.stat(base, dir_fd=directory.fd, follow_symlinks=False)
        path = directory.join(base)
        is_directory = stat.S_ISDIR(status.st_mode)
        if not is_parents and any(path + end in self._touched for end in (b"", b"/", b"\0")):
            # It may be a file of this layer, or a link that leads to one.
            self._diff.displaced = True
            if self._saver is not None:
                self._saver.save(directory, base, status)
            self.freed += self.size_of(status, path)
        if is_directory:
            self._tree.forget(path)
            remove_tree(base, dir_fd=directory.fd)
        else:
            if status.st_nlink == 1:
                self.foreign.discard(status.st_ino)  # another file may get the inode number
            os.unlink(base, dir_fd=directory.fd)

    def made_elsewhere(self, directory: Directory, base: bytes) -> None:
        """Note that a file was made, and a link on its path was followed: it may not be found under its name."""
        if self._saver is not None:
            self._saver.save_file(directory, base, os.stat(base, dir_fd=directory.fd, follow_symlinks=False))

    def size_of(self, status: os.stat_result, path: bytes) -> int:
        """Return the bytes of this layer's own files that are removed with their last names."""
        if stat.S_ISLNK(status.st_mode) or stat.S_ISREG(status.st_mode):
            is_last = status.st_nlink == 1 and path in self._touched
            return status.st_size if is_last and status.st_ino not in self.foreign else 0
        if not stat.S_ISDIR(status.st_mode):
            return 0
        total = 0
        names_left: dict[int, int] = {}  # by inode of a hard-linked file: how many of its names are elsewhere
        pending = [path]
        while pending:
            here = self._tree.enter(pending.pop())
            for name in here.names():
                inner = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
                if stat.S_ISDIR(inner.st_mode):
                    pending.append(here.join(name))
                elif inner.st_nlink == 1:
                    total += self.size_of(inner, here.join(name))
                elif here.join(name) in self._touched:
                    left = names_left.get(inner.st_ino, inner.st_nlink) - 1
                    names_left[inner.st_ino] = left
                    total += 0 if left or inner.st_ino in self.foreign else inner.st_size
        return total
