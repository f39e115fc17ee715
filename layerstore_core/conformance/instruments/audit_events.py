"""The audit events (PEP 578) of a process that changes files, one by one: to kill the process at one.

The interpreter raises such an event before each change to files, in whichever part of the program a file is opened,
renamed, removed, linked, locked, or its metadata changed. What code in C does by itself raises none.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from layerstore_core.conformance.instruments.system_calls import Run
from layerstore_core.conformance.processes import Report, in_child

_CHANGES: Final = frozenset(
    {
        *(f"os.{name}" for name in ("rename", "mkdir", "remove", "rmdir", "link", "symlink", "chmod", "chown")),
        *(f"os.{name}" for name in ("truncate", "utime", "setxattr", "removexattr", "listdir", "scandir")),
        *(f"fcntl.{name}" for name in ("fcntl", "flock", "ioctl")),
    }
)
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_COUNT: Final = "step "


class Steps:
    """Counts the steps of this process from now on, and kills it before one of them. A process may have only one.

    Args:
        last: the step before which the process is killed. `None`: never.
        before_the_end: called with this object just before that.

    Attributes:
        count: the number of steps so far.
        name: the event of the last of them. Empty if there was none.
    """

    def __init__(self, last: int | None, before_the_end: Callable[[Steps], object] = lambda _: None) -> None:
        self.count = 0
        self.name = ""
        self._last = last
        self._before_the_end = before_the_end
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            self.count += 1
            self.name = event
            if self.count == self._last:
                self._before_the_end(self)
                os.kill(os.getpid(), signal.SIGKILL)


def stop_at(work: Callable[[Report, Callable[[], None]], object], at: int, code: int = 0) -> Run:
    """Do some work in a child process, and kill it at one of its audit events. See `system_calls.stop_at`.

    Args:
        work: the work. It is called with a second function, after whose call the events count.
        at: the number of the event, from 1. 0: none.
        code: 0, since the process can only be killed.
    """
    assert not code

    def use(report: Report) -> None:
        counted: list[Steps] = []

        def tell(steps: Steps) -> None:
            report(f"{_COUNT}{steps.count} {steps.name}")

        work(report, lambda: counted.append(Steps(at or None, tell)))
        for steps in counted:
            tell(steps)

    ended = in_child(use)
    found = [line.removeprefix(_COUNT).split(" ", 1) for line in ended.reported if line.startswith(_COUNT)]
    ended.reported[:] = [line for line in ended.reported if not line.startswith(_COUNT)]
    return Run(ended, int(found[0][0]) if found else 0, found[0][1] if found else "")
