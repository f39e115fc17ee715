"""Tar entries of plain files, which a kernel makes: see `native/src/pack.h`."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Final

from layerstore_core.tree.walk import TreeWalk

#: The largest number of names in a call.
AT_ONCE: Final = 256
#: In bytes: room for many small files, and for the largest that is plain.
_ROOM: Final = 1 << 20


class PlainFiles:
    """Buffer for the entries of plain files.

    Args:
        kernels: the kernels.
    """

    def __init__(self, kernels: ModuleType) -> None:
        self._kernels = kernels
        self._room = bytearray(_ROOM)

    def pack(self, tree: TreeWalk, names: Sequence[bytes]) -> tuple[int, bytes]:
        """Pack files of a walk's current directory, up to the first that is not plain.

        Returns:
            How many were packed, and their headers and content.
        """
        above = tree.join(b"") if tree.path else b""
        done, used = self._kernels.pack(tree.fd, above, tuple(names), self._room, 0)
        return done, bytes(memoryview(self._room)[:used])
