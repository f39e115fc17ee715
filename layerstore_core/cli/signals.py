"""Handlers for SIGINT, SIGTERM and SIGHUP: the first one stops the command, which then has time to clean up."""

from __future__ import annotations

import os
import signal
from types import FrameType

_wakeup: int | None = None


class Terminated(BaseException):
    """The process was sent SIGTERM or SIGHUP. Like `KeyboardInterrupt` it unwinds through every clean-up."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


def install() -> None:
    """Let the first SIGINT, SIGTERM or SIGHUP unwind the program, and ignore later ones.

    Otherwise an impatient second Ctrl-C would interrupt the removal of files that the first one left half-written.
    A signal that the parent process chose to ignore (`nohup`) stays ignored.
    """
    global _wakeup
    if _wakeup is None:
        # Both ends stay open until the process ends.
        _wakeup, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            return
        stopping = True
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated(signum)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, stop)


def uninstall() -> None:
    """Let the next signal end the process at once: the command is done, and nothing would catch the exception."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)


def wakeup() -> int | None:
    """Return a descriptor that becomes readable when a signal has come; `None` before `install`."""
    return _wakeup
