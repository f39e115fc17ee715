"""Pools of threads: the only module that starts any."""

from __future__ import annotations

import atexit
import errno
import os
from collections.abc import Callable
from math import inf
from queue import Empty, SimpleQueue
from threading import RLock, Thread, current_thread, local
from time import monotonic
from typing import Final, Protocol

#: A thread without work ends after so many seconds.
_IDLE: Final = 1.0
#: At the end of the program, the calls that run are waited for, for so many seconds.
PATIENCE: Final = 1.0


def cores() -> int:
    """Return how many cores the program may use."""
    return len(os.sched_getaffinity(0))


class Step(Protocol):
    """Work that a thread takes from a pool."""

    def run(self) -> None:
        """Do it; raise nothing."""

    def drop(self) -> None:
        """Do not do it, since the pool was closed."""


class Pool:
    """Threads that take steps from a queue.

    Locks are reentrant, since the garbage collector may close a lane at any time, in any thread.

    Args:
        name: the name of its threads.
        most: returns how many threads it may have.
    """

    def __init__(self, name: str, most: Callable[[], int]) -> None:
        self._name = name
        self._most = most
        #: `None` ends a thread.
        self._steps: SimpleQueue[Step | None] = SimpleQueue()
        self._lock = RLock()
        self._threads: set[Thread] = set()
        self._idle = 0
        #: How many steps are in the queue; more if `schedule` was interrupted.
        self._waiting = 0
        self.ended = False
        #: The process that made it.
        self._generation = _generation

    @property
    def is_alive(self) -> bool:
        """Whether it takes steps: it was not ended, and not made before this process was forked."""
        return not self.ended and self.is_ours

    @property
    def is_ours(self) -> bool:
        """Whether its threads are in this process, and the program has not come to its end."""
        return self._generation == _generation

    @property
    def is_asked(self) -> bool:
        """Whether there are steps that no thread has taken, or its threads are to end."""
        return self.ended or not self._steps.empty()

    def schedule(self, step: Step) -> None:
        """Let a thread run a step.

        Raises:
            OSError: there is no thread, and the system lets none be started.
        """
        with self._lock:
            self._waiting += 1
            self._steps.put(step)
            lacking = self._waiting > self._idle and len(self._threads) < self._most()
        if lacking:
            # A thread counts itself: so the count is right also if this is interrupted.
            try:
                Thread(target=self._work, name=self._name, daemon=True).start()
            except RuntimeError as error:
                if not self._threads:
                    message = f"no thread can be started ({error}): the limit of processes or of memory is reached"
                    raise OSError(errno.EAGAIN, message) from error

    def close(self, patience: float) -> None:
        """End the threads, drop the steps that have not begun, and wait for the others, but not longer than that."""
        self.ended = True
        if not self.is_ours:
            return  # the threads are in another process, and one of them may have held the lock
        while True:
            try:
                step = self._steps.get_nowait()
            except Empty:
                break
            if step is not None:
                step.drop()
        self.rest(patience)

    def abandon(self) -> None:
        """End the threads, and wait for none. This takes no lock, so that the garbage collector can call it."""
        self.ended = True
        for _ in self._threads.copy():
            self._steps.put(None)

    def rest(self, patience: float) -> None:
        """End the threads that have nothing to do; wait for all, but no longer than so many seconds."""
        with self._lock:
            threads = self._threads - {current_thread()}
        for _ in threads:
            self._steps.put(None)
        until = monotonic() + patience
        for thread in threads:
            thread.join(None if until == inf else max(0.0, until - monotonic()))

    def _work(self) -> None:
        thread = current_thread()
        with self._lock:
            if len(self._threads) >= self._most():
                return  # several were started at once
            self._threads.add(thread)
        _here.pool = self
        try:
            while not self.ended and (step := self._next(thread)) is not None:
                step.run()
                del step  # what it refers to may be deleted while this thread waits
        finally:
            with self._lock:
                self._threads.discard(thread)

    def _next(self, thread: Thread) -> Step | None:
        """Wait for a step; return `None` if the thread ends."""
        while True:
            with self._lock:
                self._idle += 1
            try:
                step = self._steps.get(timeout=_IDLE)
            except Empty:
                step = None
            with self._lock:
                self._idle -= 1
                if step is not None:
                    self._waiting -= 1
                    return step
                if self._steps.empty():
                    self._waiting = 0
                # A step that was put a moment ago started no thread, because this one seemed idle.
                if not self._waiting:
                    self._threads.discard(thread)
                    return None


def program() -> Pool:
    """Return the program's pool."""
    return _program


def rest() -> None:
    """End the threads of the pool that have nothing to do. They are started again when there is work."""
    _program.rest(PATIENCE)


def is_in(pool: Pool) -> bool:
    """Whether this thread may not wait for what needs a thread of `pool`."""
    here = getattr(_here, "pool", None)
    return here is not None and (here is pool or here is _program)


def _new_pool() -> None:
    global _generation, _program
    _generation += 1
    _program = Pool("layerstore-pool", cores)


def _at_exit() -> None:
    _program.close(PATIENCE)
    _new_pool()  # what is called after this may need threads, too


#: Counts forks: what was made before one has no threads after it.
_generation = 0
#: The pool of this thread, if it belongs to one.
_here: Final = local()
_program = Pool("layerstore-pool", cores)
os.register_at_fork(after_in_child=_new_pool)
atexit.register(_at_exit)
