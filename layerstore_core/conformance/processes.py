"""Other processes: children that do something with a driver, and may be killed while they do it."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

#: Whoever takes longer than this many seconds waits for something that never comes.
_TIME_LIMIT: Final = 120

#: Called by a child with a line for its parent.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child came to its end.

    Attributes:
        told: the lines that it told.
        killed: whether it was killed by SIGKILL.
        error: the traceback of the exception that ended it; empty where there was none.
    """

    told: list[str]
    killed: bool
    error: str


def in_child(work: Callable[[Tell], object]) -> Ended:
    """Do some work in a child process, and wait for its end; see `Child`."""
    return Child(work).wait()


class Child:
    """A process that does some work beside this one, and ends.

    It is a copy of this process, so `work` may be any function. This process must have no store and no driver instance
    open on the root that the child uses: a copy shares its locks.

    Args:
        work: what it does; called with a function by which it tells its parent a line.
    """

    def __init__(self, work: Callable[[Tell], object]) -> None:
        self._reading, writing = os.pipe()
        with warnings.catch_warnings():
            # Later Pythons warn of threads; those of a store that is closed have ended.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            os.close(self._reading)
            _work_and_exit(work, writing)
        os.close(writing)

    def wait(self) -> Ended:
        """Wait for its end.

        Raises:
            AssertionError: it did not end by itself in two minutes.
        """
        with os.fdopen(self._reading, "rb") as stream:
            lines = stream.read().decode("utf-8", "surrogateescape").splitlines()
        _, status = os.waitpid(self._pid, 0)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        assert number != signal.SIGALRM, f"a process did not end within {_TIME_LIMIT} seconds: it waits for a lock"
        told = [line.removeprefix("told ") for line in lines if line.startswith("told ")]
        error = "\n".join(line for line in lines if not line.startswith("told "))
        if number not in (0, signal.SIGKILL):
            error += f"\nit was ended by {signal.Signals(number).name}"
        return Ended(told, number == signal.SIGKILL, error)


def die() -> NoReturn:
    """End this process at once, as a power cut or the kernel's out-of-memory killer would."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive after SIGKILL")


def _work_and_exit(work: Callable[[Tell], object], writing: int) -> NoReturn:
    """The child's life: it never returns to the tests that it is a copy of."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _TIME_LIMIT)
        try:
            work(lambda line: _write(writing, f"told {line}\n"))
        except BaseException:
            _write(writing, "".join(traceback.format_exception(*sys.exc_info())))
    finally:
        os._exit(0)


def _write(writing: int, text: str) -> None:
    os.write(writing, text.encode("utf-8", "surrogateescape"))
