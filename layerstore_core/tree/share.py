"""Work on the directories of trees in several threads.

A kernel works on a directory and on what is below it until it has seen as many names as it may, and leaves the rest.
What it has left is shared among the threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from threading import Condition
from typing import Final, TypeVar

from layerstore_core.base.threads import Task, cores, submit

#: After so many names a kernel leaves the rest. It takes some ten milliseconds for that many.
_NAMES: Final = 2000
#: At first it leaves the rest sooner, so that there is something to share.
_FIRST_NAMES: Final = 200
#: The largest number of directories that a thread gets at once.
_MOST: Final = 64

#: The largest number of threads at work: each may have a hundred descriptors open in deep trees, and 1,024 are usual.
_THREADS: Final = 6

T = TypeVar("T")
R = TypeVar("R")


def share(
    waiting: list[T],
    new_part: Callable[[], Callable[[list[T], int], R]],
    take: Callable[[R], Iterable[T]],
    stop: bytearray,
) -> None:
    """Work on directories, and on those that are found on the way, until none is left.

    Args:
        waiting: the directories to work on; empty at the end.
        new_part: returns a function that works on directories, until it has seen about so many names. It
            is called in one thread at a time, and does nothing once `stop` is set.
        take: takes a result, in this thread. It returns the directories that are to be worked on after it.
        stop: its byte is set to end the work of all parts soon, if anything goes wrong. The result is then of no use.

    Raises:
        Exception: the first error of a part, or of `take`. No part is at work any more.
    """
    free: list[Callable[[list[T], int], R]] = []
    running: deque[tuple[Callable[[list[T], int], R], Task[R]]] = deque()
    # One more than can be at work at once: its directories are waiting when a thread is done.
    most = min(cores(), _THREADS) + 1
    names = _FIRST_NAMES
    calls = _Calls()
    try:
        while waiting or running:
            while waiting and len(running) < most:
                count = min(_MOST, len(waiting) // most + 1)
                part = free.pop() if free else new_part()
                running.append((part, submit(partial(calls.make, part, waiting[-count:], names))))
                del waiting[-count:]
            names = _NAMES
            part, task = running[0]
            waiting += take(task.result())
            running.popleft()
            free.append(part)
    except BaseException:
        stop[0] = 1
        calls.wait()
        raise


class _Calls:
    """The calls that are being made: they use descriptors that will be closed, so their end has to be waited for.

    The tasks are not enough for that: an interrupt may come after one was submitted, and before it was stored.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._number = 0
        self._process = os.getpid()

    def make(self, part: Callable[[list[T], int], R], waiting: list[T], names: int) -> R:
        """Call a part."""
        with self._changed:
            self._number += 1
        try:
            return part(waiting, names)
        finally:
            with self._changed:
                self._number -= 1
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait until no call is being made, even if that is interrupted; raise the interrupt then."""
        interrupted: BaseException | None = None
        while os.getpid() == self._process:  # a forked child has no threads
            try:
                with self._changed:
                    while self._number:
                        self._changed.wait()
                break
            except BaseException as error:
                interrupted = interrupted or error
        if interrupted is not None:
            raise interrupted
