"""Child processes that use a driver, and that may be killed meanwhile."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

#: A child that takes longer than this many seconds waits for an event that will never come.
TIME_LIMIT: Final = 120
#: The seconds after that in which it has to have ended.
GRACE: Final = 10
_CHUNK: Final = 1 << 16
#: A child calls it with a line for its parent.
Report = Callable[[str], None]


#: The beginning of a line that a child reports. Lines without it are a traceback.
_MARK: Final = "reported "


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a child process.

    Attributes:
        reported: the lines that the child has reported.
        killed: whether the child was killed by SIGKILL.
        error: the traceback of the exception that ended the child. Empty if there was none.
    """

    reported: list[str]
    killed: bool
    error: str


def in_child(work: Callable[[Report], object]) -> Ended:
    """Do some work in a child process, and wait for its end. See `Child`."""
    return Child(work).wait()


class Child:
    """A child process that does some work and ends.

    The child is a copy of this process (a fork), so `work` may be any function. This process must have no store and no
    driver instance open on the root that the child uses, because a copy shares the locks.

    Args:
        work: the work of the child. It is called with a function that reports a line to the parent.
    """

    def __init__(self, work: Callable[[Report], object]) -> None:
        self._reading, writing = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 and later warn of a fork with threads. The threads of a closed store have ended.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            os.close(self._reading)
            _work_and_exit(work, writing)
        os.close(writing)

    @property
    def pid(self) -> int:
        """The process ID of the child."""
        return self._pid

    def wait(self) -> Ended:
        """Wait for the child's end.

        Raises:
            AssertionError: the child did not end within two minutes.
        """
        try:
            lines = self._read().decode("utf-8", "surrogateescape").splitlines()
        finally:
            os.close(self._reading)
        _, status = os.waitpid(self._pid, 0)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        assert number != signal.SIGALRM, f"a process did not end within {TIME_LIMIT} seconds: it waits for a lock"
        reported = [line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)]
        error = "\n".join(line for line in lines if not line.startswith(_MARK))
        if number not in (0, signal.SIGKILL):
            error += f"\nit was ended by {signal.Signals(number).name}"
        return Ended(reported, number == signal.SIGKILL, error)

    def _read(self) -> bytes:
        """Return what the child writes until it ends. Its pipe may live longer: in a server that it has forked."""
        written = bytearray()
        os.set_blocking(self._reading, False)
        watched = os.pidfd_open(self._pid)
        try:
            poll = select.poll()
            for fd in (self._reading, watched):
                poll.register(fd, select.POLLIN)
            deadline = time.monotonic() + TIME_LIMIT + GRACE
            while True:
                ready = dict(poll.poll(max(0, deadline - time.monotonic()) * 1000))
                assert ready, f"a process did not end within {TIME_LIMIT} seconds: it waits for something"
                if self._reading in ready:
                    with suppress(BlockingIOError):
                        while chunk := os.read(self._reading, _CHUNK):
                            written += chunk
                        poll.unregister(self._reading)  # nobody can write into it any more
                if watched in ready:
                    return bytes(written)
        finally:
            os.close(watched)


def die() -> NoReturn:
    """End this process at once, as a power cut or the kernel's out-of-memory killer would."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive after SIGKILL")


def _work_and_exit(work: Callable[[Report], object], writing: int) -> NoReturn:
    """Do the child's work and end the child. Never return to the tests, whose copy the child is."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)
        try:
            work(lambda line: _write(writing, f"{_MARK}{line}\n"))
        except BaseException:
            _write(writing, "".join(traceback.format_exception(*sys.exc_info())))
    finally:
        os._exit(0)


def _write(writing: int, text: str) -> None:
    os.write(writing, text.encode("utf-8", "surrogateescape"))
