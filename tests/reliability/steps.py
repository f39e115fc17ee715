"""Kill a process at a step, without any code in the product.

The interpreter raises an audit event (PEP 578) before each change to files, in whichever part of the program a file is
opened, renamed, removed, linked, locked, or its metadata changed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Final

_CHANGES: Final = frozenset(
    {
        *(f"os.{name}" for name in ("rename", "mkdir", "remove", "rmdir", "link", "symlink", "chmod", "chown")),
        *(f"os.{name}" for name in ("truncate", "utime", "setxattr", "removexattr", "listdir", "scandir")),
        *(f"fcntl.{name}" for name in ("fcntl", "flock", "ioctl")),
    }
)
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Steps:
    """Counts the steps of this process from now on, and kills it before one of them. A process may have only one.

    Args:
        last: the step before which the process is killed. `None`: never.
    """

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self._last = last
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
