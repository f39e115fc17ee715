"""Being asked to stop: once is enough, and there is time to clean up."""

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
    """Let the first SIGINT, SIGTERM or SIGHUP unwind the program; later ones wait for that to end.

    Without the second half, an impatient second Ctrl-C would interrupt the removal of what the first
    one left half-written. A signal that the parent chose to ignore (`nohup`) stays ignored.
    """
    global _wakeup
    if _wakeup is None:
        # Both ends stay open as long as the process lives.
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
    """Let the next signal end the process at once: all is done, and nobody would catch what a handler raises."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)


def wakeup() -> int | None:
    """A descriptor that can be read as soon as a signal has come; `None` before `install`."""
    return _wakeup
