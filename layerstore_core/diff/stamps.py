"""Stamps of a tree's files, taken when the tree is made, so that files not touched since need not be read.

A stamp is a digest of a path, and of the inode number, the change time (ctime), the size and the modification time of
the file there. The kernel sets the ctime whenever content, attributes, link count or name change, and no process can
set it to a value of its choice. Stamps are only compared for equality. Two ctimes do not show which was first, since a
clock can be set.
"""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from typing import Final

from layerstore_core.base import inside
from layerstore_core.tree.walk import TreeWalk

#: Bytes of a stamp: long enough that no two files of a tree have the same.
_SIZE: Final = 16


class Stamps:
    """Stamps of one tree.

    Args:
        data: what `take_stamps` has returned. A part of it proves less, but nothing wrong.
    """

    def __init__(self, data: bytes) -> None:
        self._known = {data[start : start + _SIZE] for start in range(0, len(data), _SIZE)}

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
    # How the size of a directory changes depends on the file system.
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    text = b"%d %d %d %d %b" % (status.st_ino, status.st_ctime_ns, size, status.st_mtime_ns, path)
    return blake2b(text, digest_size=_SIZE).digest()
