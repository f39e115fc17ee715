"""The end of the terminal ends the program, even where Textual could not end any more."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from layerstore_core.base.threads.tasks import Threads


@contextmanager
def end_with_terminal(close: Callable[[], object]) -> Iterator[None]:
    """End the process with the code of SIGHUP as soon as its terminal is gone, while the `with` block runs.

    A thread waits for that. Textual itself reads the end of its input again and again then, and its main thread waits
    for one that writes, which the first error has ended.

    Args:
        close: closes what the program has opened, from that thread; called once, before the process ends.
    """
    ending, end = os.pipe2(os.O_CLOEXEC)
    with Threads("terminal", 1) as threads:
        try:
            threads.submit(lambda: _wait_for_end(sys.__stdin__ or 0, ending, close))
            yield
        finally:
            os.close(end)
    os.close(ending)


def _wait_for_end(terminal: TextIO | int, ending: int, close: Callable[[], object]) -> None:
    poll = select.poll()
    poll.register(terminal, 0)  # no events: what is waited for is POLLHUP
    poll.register(ending, 0)
    gone = [descriptor for descriptor, _ in poll.poll()]
    if gone == [ending]:
        return
    try:
        close()
    finally:  # there is no terminal for an error
        os._exit(128 + signal.SIGHUP)
