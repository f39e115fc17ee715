"""A Docker daemon's lock on its data root, and a lock against it.

While a daemon runs, it has `<root>/volumes/metadata.db`, a bbolt database, locked (flock(2), exclusive; moby,
`volume/service/store.go`). It writes no pid file into the root, and its pid file elsewhere has no meaning in another
container. But the lock is visible wherever the file system is mounted. The kernel knows which process has the lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.descriptors import Descriptor
from layerstore_core.errors import RootInUse

_DATABASE: Final = Path("volumes", "metadata.db")
_LOCK: Final = r"\d+: FLOCK +\S+ +\S+ (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) "


def docker_was_here(root: Path) -> bool:
    """Return whether a root was ever the data root of a Docker daemon."""
    return (root / _DATABASE).exists()


class DockerLock:
    """A lock against Docker daemons: while it is open, no daemon can start on the root.

    Args:
        root: the root. If no daemon has ever used it, nothing is locked.

    Raises:
        RootInUse: a daemon is running on the root. The message names its process.
        BadRecord: the database is not a regular file.
        OSError: the database cannot be opened.
    """

    def __init__(self, root: Path) -> None:
        self._file: Descriptor | None = None
        path = root / _DATABASE
        try:
            self._file = inside.open_file(path)
            self._file.close_in_children()
        except FileNotFoundError:
            return
        fd = self._file.number
        try:
            # A shared lock: any number of stores may have it.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            inode = os.fstat(fd).st_ino
            self.close()
            if error.errno == errno.EWOULDBLOCK:
                raise RootInUse(
                    f"{root} is the data root of a running Docker daemon{_described(inode)}: it can be read, but not "
                    "written; stop the daemon first"
                ) from None
            error.filename = str(path)
            raise

    def close(self) -> None:
        """Release the lock, so that daemons can start again. A second call does nothing."""
        if self._file is not None:
            self._file.close()


def _described(inode: int) -> str:
    """Return the process that has a lock on the file, in words; empty if it is not visible from here."""
    try:
        locks = Path("/proc/locks").read_text()
    except OSError:
        return ""
    for line in locks.splitlines():
        found = re.match(_LOCK, line)
        if found and int(found[2]) == inode and int(found[1]) > 0:
            pid = found[1]
            try:
                name = Path("/proc", pid, "comm").read_text().strip()
            except OSError:
                continue
            return f", process {pid} ({name})"
    return ""
