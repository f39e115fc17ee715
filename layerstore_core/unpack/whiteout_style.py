"""What unpacking a layer does about what is below it, where the parent's files are not in the same tree."""

from __future__ import annotations

import os
from collections.abc import Iterable

from layerstore_core.tree.root import Directory, Root


class WhiteoutStyle:
    """The parent's files are in the tree that is unpacked into: what a whiteout names is simply deleted.

    A driver that keeps each layer's own files in a directory of their own overrides this, to leave
    marks there instead. The unpacker has removed what stands in a mark's place before it asks for one.
    """

    def whiteout(self, directory: Directory, base: bytes) -> None:
        """Hide what the layers below have at `base` in `directory`; the name is free."""

    def opaque(self, directory: Directory) -> None:
        """Hide all that the layers below have in `directory`."""

    def is_whiteout(self, status: os.stat_result) -> bool:
        """Whether a file in the tree is a mark that `whiteout` has left."""
        return False

    def below(self, tree: Root, path: bytes) -> bytes | bool | None:
        """What the layers below show at a path at which the tree has nothing, with directories alone on the way to it.

        Returns:
            The target of a symbolic link; for anything else whether it is a directory; `None` where nothing shows.
        """
        return None

    def bring_up(self, tree: Root, name: bytes) -> bool:
        """Copy the file `name` from the layers below to its place in the tree, for a hard link to it.

        Returns:
            Whether it is there now.
        """
        return False

    def implied(self, paths: Iterable[bytes]) -> None:
        """The layer is unpacked; it needed these directories, parents first, and had no entries for them.

        The root, `b""`, is among them.
        """
