"""How unpacking hides the parents' files, for drivers that keep them outside the tree that is unpacked into."""

from __future__ import annotations

import os
from collections.abc import Iterable

from layerstore_core.tree.root import Directory, Root


class WhiteoutStyle:
    """Style for drivers that have the parent's files in the tree: a file that a whiteout names is deleted.

    A driver that keeps each layer's own files in a separate directory overrides these methods, and leaves marks
    there instead. The unpacker removes what has a mark's name before it asks for the mark.
    """

    def whiteout(self, directory: Directory, base: bytes) -> None:
        """Hide the file that the parent layers have at `base` in `directory`. The name is free."""

    def opaque(self, directory: Directory) -> None:
        """Hide all files that the parent layers have in `directory`."""

    def is_whiteout(self, status: os.stat_result) -> bool:
        """Return whether a file in the tree is a mark that `whiteout` has left."""
        return False

    def below(self, tree: Root, path: bytes) -> bytes | bool | None:
        """Look up a path in the parent layers. The tree has no file there, and only directories on the way to it.

        Returns:
            The target, if it is a symbolic link; else whether it is a directory; `None` if nothing is there.
        """
        return None

    def bring_up(self, tree: Root, name: bytes) -> bool:
        """Copy the file `name` from the parent layers to its place in the tree, so that it can be hard-linked.

        Returns:
            Whether the file is in the tree now.
        """
        return False

    def implied(self, paths: Iterable[bytes]) -> None:
        """Take note, after the layer is unpacked, of the directories that it needed and had no entries for.

        Args:
            paths: the directories, parents first. The root, `b""`, is among them if it had no entry.
        """
