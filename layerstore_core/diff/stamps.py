"""Stamps of a tree's files, taken when the tree is made, so that files not touched since need not be read.

A stamp is a digest of a path, and of the inode number, the change time (ctime), the size and the modification time of
the file there. The kernel sets the ctime whenever content, attributes, link count or name change, and no process can
set it to a value of its choice. Stamps are only compared for equality. Two ctimes do not show which was first, since a
clock can be set.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from layerstore_core.base import inside
from layerstore_core.base.kernels import engine
from layerstore_core.tree.share import share
from layerstore_core.tree.walk import TreeWalk

if TYPE_CHECKING:
    from types import ModuleType

#: Bytes of a stamp: long enough that no two files of a tree have the same.
_SIZE: Final = 16


class Stamps:
    """Stamps of one tree.

    Args:
        data: what `take_stamps` has returned. A part of it proves less, but nothing wrong.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    @cached_property
    def _known(self) -> set[bytes]:
        return {self._data[start : start + _SIZE] for start in range(0, len(self._data), _SIZE)}

    def for_kernel(self, kernels: ModuleType) -> bytes:
        """Return the stamps as the kernel takes them."""
        ordered: bytes = kernels.sort_stamps(self._data)
        return ordered

    def match(self, path: bytes, status: os.stat_result) -> bool:
        """Return whether the file at `path`, relative to the root, is the same file as then, and unchanged.

        In a directory that matches, no name was added or removed; its content has stamps of its own.
        """
        return _stamp(path, status) in self._known


def change_clock(directory: str | os.PathLike[str]) -> int:
    """Return the current time of the clock that the file system of `directory` uses for ctimes, in nanoseconds.

    That clock ticks coarsely (every few milliseconds) and may not be this machine's. It can be set. So a time does not
    show what was before or after it, except for what has happened just now. See `take_stamps`.
    """
    with inside.temporary_file(directory) as file:
        return os.fstat(file.fileno()).st_ctime_ns


def take_stamps(root: str | os.PathLike[str], before_ns: int) -> bytes:
    """Return the stamps of a tree as bytes. The tree must not change meanwhile.

    Args:
        root: the tree.
        before_ns: the current time, from `change_clock`, read once the tree was made. The clock of ctimes ticks
            coarsely: files touched in this tick are left out, since a later change may get the same ctime.

    Raises:
        OSError: something cannot be read; the error names it.
    """
    kernels = engine().kernels
    with TreeWalk(root) as tree:
        waiting = [b""]
        found: list[bytes] = []
        if kernels is not None:
            _take_in_threads(tree, waiting, before_ns, found, kernels)
        while waiting:
            _take(tree, waiting, before_ns, found)
    return b"".join(found)


def _take(tree: TreeWalk, waiting: list[bytes], before_ns: int, found: list[bytes]) -> None:
    """Take the stamps of the last directory that is waiting, and of the files in it."""
    directory = waiting.pop()
    status = os.fstat(tree.enter(directory))
    if status.st_ctime_ns < before_ns:
        found.append(_stamp(directory, status))
    with os.scandir(tree.fd) as entries:
        for entry in entries:
            path = tree.join(entry.name)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
                continue
            status = entry.stat(follow_symlinks=False)
            if status.st_ctime_ns < before_ns:
                found.append(_stamp(path, status))


def _take_in_threads(
    tree: TreeWalk, waiting: list[bytes], before_ns: int, found: list[bytes], kernels: ModuleType
) -> None:
    """Take the stamps of all directories that are waiting, and of all below them."""
    stop = bytearray(1)

    def new_part() -> Callable[[list[bytes], int], list[bytes]]:
        walk = stack.enter_context(tree.again())

        def take(paths: list[bytes], names: int) -> list[bytes]:
            while paths and names and not stop[0]:
                path = paths.pop()
                try:
                    (notes, names), stamps = kernels.take_stamps(walk.enter(path), names, stop, path, before_ns)
                except OSError as error:
                    error.filename = walk.absolute(error.filename)
                    raise
                found.append(stamps or b"")
                paths += [below for _, below, _ in notes]
            return paths

        return take

    with ExitStack() as stack:
        share(waiting, new_part, lambda left: left, stop)


def _stamp(path: bytes, status: os.stat_result) -> bytes:
    # How the size of a directory changes depends on the file system.
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    text = b"%d %d %d %d %b" % (status.st_ino, status.st_ctime_ns, size, status.st_mtime_ns, path)
    return blake2b(text, digest_size=_SIZE).digest()
