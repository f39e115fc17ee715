"""The processes that a driver has started and that outlive their user."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from layerstore_core.conformance.processes import Report, in_child

_CHILD_SUBREAPER: Final = 36
_LEFT: Final = "left "
_PAUSE: Final = 0.02


def processes_left(work: Callable[[], object], patience: float) -> list[str]:
    """Do some work in a process that ends, and return the command lines of what it has left running.

    The processes that are left are killed.

    Args:
        work: the work.
        patience: the number of seconds that a process may take to end.

    Raises:
        AssertionError: the work has failed.
    """

    def watch(report: Report) -> None:
        # What loses its parent becomes a child of this process.
        ctypes.CDLL(None).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)
        ended = in_child(lambda _: work())
        if ended.error:
            report(ended.error.replace("\n", "\n  "))
            return
        for pid in _still_running(patience):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            report(f"{_LEFT}{pid}: {command.strip() or Path(f'/proc/{pid}/comm').read_text().strip()}")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    ended = in_child(watch)
    found = [line.removeprefix(_LEFT) for line in ended.reported if line.startswith(_LEFT)]
    assert not ended.error and len(found) == len(ended.reported), ended.error or "\n".join(ended.reported)
    return found


def _still_running(patience: float) -> list[int]:
    """Wait until this process has no child, or for so many seconds. Return its children."""
    end = time.monotonic() + patience
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return []
        if pid == 0:
            if time.monotonic() > end:
                return [
                    int(child)
                    for task in os.listdir("/proc/self/task")
                    for child in Path(f"/proc/self/task/{task}/children").read_text().split()
                ]
            time.sleep(_PAUSE)
