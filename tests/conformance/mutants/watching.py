"""Watch which files are written under their names, by inotify(7)."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from pathlib import Path
from typing import Final

_MODIFY: Final = 0x2
_MOVED_TO: Final = 0x80
_EVENT: Final = struct.Struct("iIII")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class WatchedTree:
    """The directories that a tree has now, and what is written in them from now on."""

    def __init__(self, root: Path) -> None:
        self._fd = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._directories: dict[int, Path] = {}
        for directory in (root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())):
            self._directories[_LIBC.inotify_add_watch(self._fd, os.fsencode(directory), _MODIFY | _MOVED_TO)] = (
                directory
            )
        self._before = {path for directory in self._directories.values() for path in directory.iterdir()}

    def end(self) -> list[Path]:
        """Stop, and return the new files with content that nobody has written under their names."""
        written = set()
        try:
            while events := os.read(self._fd, 1 << 16):
                while events:
                    watch, _, _, length = _EVENT.unpack_from(events)
                    name = events[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
                    written.add(self._directories[watch] / os.fsdecode(name))
                    events = events[_EVENT.size + length :]
        except BlockingIOError:
            pass
        finally:
            os.close(self._fd)
        new = {path for one in self._directories.values() if one.is_dir() for path in one.iterdir()} - self._before
        return sorted(path for path in new - written if _has_content(path.lstat()))


def _has_content(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size > 0
