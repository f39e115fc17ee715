"""The files in a driver's home: their names, bytes and inodes, to see what grows."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Home:
    """What is in a directory.

    Attributes:
        names: the paths of all files, relative to the directory.
        bytes: the lengths of all files that are no directories, each inode once.
        inodes: the number of files, each inode once.
    """

    names: frozenset[str]
    bytes: int
    inodes: int

    def growth_since(self, before: Home) -> str:
        """Return what has grown, as words; empty if nothing has.

        Other names are no growth if there are not more of them: a driver may rename a file of its own.
        """
        if self.inodes <= before.inodes and self.bytes <= before.bytes:
            return ""
        new = sorted(self.names - before.names)
        shown = ", ".join(map(repr, new[:_SHOWN])) + (f" and {len(new) - _SHOWN} more" if len(new) > _SHOWN else "")
        return f"{self.inodes - before.inodes:+d} files and {self.bytes - before.bytes:+d} bytes" + (
            f"; new: {shown}" if new else "; a file has become longer"
        )


def measure(directory: Path) -> Home:
    """Look at all files of a directory. A directory that does not exist is an empty one."""
    names: set[str] = set()
    inodes: dict[tuple[int, int], int] = {}
    for where, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = os.path.join(where, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            names.add(os.path.relpath(path, directory))
            inodes[status.st_dev, status.st_ino] = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return Home(frozenset(names), sum(inodes.values()), len(inodes))


def status_of_files(directory: Path) -> dict[str, tuple[int, ...]]:
    """Return the type, owner, size and time of change of each file of a directory, by its path in it.

    Of directories, the time is left out: a mount point may be made and removed in them.
    """
    found: dict[str, tuple[int, ...]] = {}
    for where, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = os.path.join(where, name)
            status = os.lstat(path)
            key = (status.st_mode, status.st_uid, status.st_gid)
            if not stat.S_ISDIR(status.st_mode):
                key = (*key, status.st_size, status.st_mtime_ns, status.st_nlink)  # type: ignore[assignment]
            found[os.path.relpath(path, directory)] = key
    return found
