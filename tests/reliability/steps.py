"""Dying at a step: the interpreter tells of each change to files before it makes it, and needs no code in the product.

Audit events (PEP 578) come from whatever part of a program opens, renames, removes, links, labels or locks a file.
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
    """Counts the steps of this process from now on, and kills it before one of them. A process has one of these.

    Args:
        last: the step before which it dies; `None`: never.
    """

    def __init__(self, last: int | None) -> None:
        self.count = 0
        self._last = last
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
