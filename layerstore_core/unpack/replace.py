"""Removing what stands in the way of a layer that is unpacked, and keeping count of what of its own that takes away."""

from __future__ import annotations

import os
import stat

from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tree.remove import remove_tree
from layerstore_core.tree.root import Directory, Root


class Replacer:
    """What one layer clears away.

    Args:
        tree: what it is unpacked into.
        diff: the layer; it is told where a file of its own may be gone, whose content its tar-split lines count on.

    Attributes:
        freed: how much of the layer's own size is gone again, in bytes.
        foreign: inodes of files of layers below that this layer has linked to: their content is not its own.
    """

    def __init__(self, tree: Root, diff: LayerStream) -> None:
        self._tree = tree
        self._diff = diff
        self._touched = diff.touched
        self.freed = 0
        self.foreign: set[int] = set()

    def clear(self, directory: Directory, base: bytes) -> None:
        """Remove what stands in an entry's place; nothing is pending there.

        Raises:
            FileNotFoundError: nothing does.
        """
        status = os.stat(base, dir_fd=directory.fd, follow_symlinks=False)
        path = join(directory, base)
        is_directory = stat.S_ISDIR(status.st_mode)
        if path in self._touched or path + b"/" in self._touched or path in self._tree.followed:
            # It may be a file of this layer, or lead to one.
            self._diff.displaced = True
            self.freed += self.size_of(status, path)
        if is_directory:
            self._tree.forget(path)
            remove_tree(base, dir_fd=directory.fd)
        else:
            if status.st_nlink == 1:
                self.foreign.discard(status.st_ino)  # another file may get the number
            os.unlink(base, dir_fd=directory.fd)

    def size_of(self, status: os.stat_result, path: bytes) -> int:
        """How much of the layer's size goes with what is removed: what this layer wrote, its last name gone."""
        if stat.S_ISLNK(status.st_mode) or stat.S_ISREG(status.st_mode):
            is_last = status.st_nlink == 1 and path in self._touched
            return status.st_size if is_last and status.st_ino not in self.foreign else 0
        if not stat.S_ISDIR(status.st_mode):
            return 0
        total = 0
        names_left: dict[int, int] = {}  # of files with several names: how many of them are elsewhere
        pending = [path]
        while pending:
            here = self._tree.enter(pending.pop())
            for name in names_in(here):
                inner = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
                if stat.S_ISDIR(inner.st_mode):
                    pending.append(join(here, name))
                elif inner.st_nlink == 1:
                    total += self.size_of(inner, join(here, name))
                elif join(here, name) in self._touched:
                    left = names_left.get(inner.st_ino, inner.st_nlink) - 1
                    names_left[inner.st_ino] = left
                    total += 0 if left or inner.st_ino in self.foreign else inner.st_size
        return total


def join(directory: Directory, base: bytes) -> bytes:
    """The path of something in a directory, relative to the root."""
    return directory.path + b"/" + base if directory.path else base


def names_in(directory: Directory) -> list[bytes]:
    """The names that are there now.

    btrfs shows a descriptor only what was there when it was opened, or last set to the start.
    """
    os.lseek(directory.fd, 0, os.SEEK_SET)
    return [os.fsencode(name) for name in os.listdir(directory.fd)]
