"""Docker's hold on its data root, and ours against it.

A daemon keeps `<root>/volumes/metadata.db`, a bbolt database, locked for as long as it runs (flock(2), exclusive; moby,
`volume/service/store.go`). It writes no pid file into the root, and the one that it does write is of no use in
another container: the lock is seen wherever the file system is. Who has the lock, the kernel tells.
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
_LOCK = re.compile(r"\d+: FLOCK +\S+ +\S+ (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ")


def docker_was_here(root: Path) -> bool:
    """Whether a daemon has ever had a root for its data root."""
    return (root / _DATABASE).exists()


class DockerLock:
    """Keeps Docker daemons off a root: none starts there while this is open.

    Args:
        root: the root; where no daemon has ever been, there is nothing to lock.

    Raises:
        RootInUse: a daemon is running there; the message names its process.
        BadRecord: something else stands in the database's place.
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
            # Shared: any number of stores may have it.
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
        """Let daemons start again. A second call does nothing."""
        if self._file is not None:
            self._file.close()


def _described(inode: int) -> str:
    """The process that has a lock on the file, in words; empty where it is not to be seen from here."""
    try:
        locks = Path("/proc/locks").read_text()
    except OSError:
        return ""
    for line in locks.splitlines():
        found = _LOCK.match(line)
        if found and int(found[2]) == inode and int(found[1]) > 0:
            pid = found[1]
            try:
                name = Path("/proc", pid, "comm").read_text().strip()
            except OSError:
                continue
            return f", process {pid} ({name})"
    return ""
