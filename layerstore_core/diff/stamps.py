"""Stamps: how the files of a tree were when it was made, so that what was not touched since need not be read.

A stamp is a digest of a path and of the inode number, the change time (ctime), the size and the modification time of the
file there. The kernel sets the ctime with every change of content, attributes, link count or name, and nobody can set it
to a value of his choice. Stamps are compared for equality alone: of two ctimes nothing tells which was first, for a clock
can be set.
"""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from typing import Final

from layerstore_core.base import inside
from layerstore_core.tree.walk import TreeWalk

#: Bytes of one stamp: two files of one tree never have the same.
_SIZE: Final = 16


class Stamps:
    """The stamps of one tree.

    Args:
        data: what `take_stamps` returned. A part of it says less, and nothing wrong.
    """

    def __init__(self, data: bytes) -> None:
        self._known = {data[start : start + _SIZE] for start in range(0, len(data), _SIZE)}

    def match(self, path: bytes, status: os.stat_result) -> bool:
        """Return whether the file at `path`, relative to the root, is the one that was there, as it was.

        A directory that matches has had no name come or go; what is in it has stamps of its own.
        """
        return _stamp(path, status) in self._known


def change_clock(directory: str | os.PathLike[str]) -> int:
    """The present by the clock that the file system of `directory` stamps ctimes with, in nanoseconds.

    That clock ticks coarsely (every few milliseconds) and may not be this machine's. It can be set: a moment tells
    nothing of what was before or after it, but for what has happened just now. See `take_stamps`.
    """
    with inside.temporary_file(directory) as file:
        return os.fstat(file.fileno()).st_ctime_ns


def take_stamps(root: str | os.PathLike[str], before_ns: int) -> bytes:
    """Return the stamps of a tree that nobody changes meanwhile, as bytes.

    Args:
        root: the tree.
        before_ns: the present, taken with `change_clock` once the tree was made. The clock of ctimes ticks coarsely: what
            was touched in this tick is left out, since a change yet to come may have the same ctime.

    Raises:
        OSError: something cannot be read; the error names it.
    """
    found = []
    with TreeWalk(root) as tree:
        waiting = [b""]
        while waiting:
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
    return b"".join(found)


def _stamp(path: bytes, status: os.stat_result) -> bytes:
    # The size of a directory is the file system's affair.
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    text = b"%d %d %d %d %b" % (status.st_ino, status.st_ctime_ns, size, status.st_mtime_ns, path)
    return blake2b(text, digest_size=_SIZE).digest()
