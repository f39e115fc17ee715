"""Single calls in threads, whose results are waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from threading import Lock
from typing import Any, Generic, Self, TypeVar, cast

from layerstore_core.base.threads.pool import Pool, is_in, program

T = TypeVar("T")


class Dropped(Exception):
    """A call that had not begun will not be made: what it was put into has been closed."""


class Task(Generic[T]):
    """A call that a thread makes, or has made.

    Args:
        work: the call.
        pool: where it is made.
    """

    def __init__(self, work: Callable[[], T], pool: Pool) -> None:
        self._work: Callable[[], T] | None = work
        self._pool = pool
        self._value: T | None = None
        self._error: BaseException | None = None
        self._done = False
        self._waiters: deque[Lock] = deque()

    @property
    def done(self) -> bool:
        """Whether the call was made, or dropped."""
        return self._done

    @property
    def error(self) -> BaseException | None:
        """What the call raised; `None` also if it is not done yet."""
        return self._error

    def result(self) -> T:
        """Wait until the call was made, and return what it returned.

        Raises:
            BaseException: what it raised.
            Dropped: it will not be made.
        """
        self.wait()
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # the error refers to this frame
        return cast("T", self._value)

    def wait(self, seconds: float = -1) -> bool:
        """Wait until the call was made or dropped, but not longer than so many seconds; return whether it was."""
        if is_in(program()):
            raise RuntimeError("a call that holds a thread of the pool must not wait for another one")
        if not self._done:
            if not self._pool.is_ours:
                raise Dropped("the call belongs to the process that this one was forked from, or the program has ended")
            waiter = Lock()
            waiter.acquire()
            self._waiters.append(waiter)
            if not self._done:
                waiter.acquire(timeout=seconds)
        return self._done

    def run(self) -> None:
        """Make the call; see `Step.run`."""
        work, self._work = self._work, None
        if work is None:
            return
        try:
            self._value = work()
        except BaseException as error:
            self._error = error
        del work
        self._finish()
        del self  # the error refers to this frame

    def drop(self) -> None:
        """Make no call, if it has not begun."""
        work, self._work = self._work, None
        if work is not None:
            self._error = Dropped("the call had not begun when its threads were closed")
            self._finish()

    def _finish(self) -> None:
        self._done = True
        while self._waiters:
            self._waiters.pop().release()


class Threads:
    """Threads for calls that may wait: for a server, or for each other; a context manager that closes them.

    The calls begin in the order in which they were submitted. So one may wait for those before it.

    Args:
        name: the name of the threads.
        most: how many threads there may be.
    """

    def __init__(self, name: str, most: int) -> None:
        self._pool = Pool(name, lambda: most)

    def submit(self, work: Callable[[], T]) -> Task[T]:
        """Make a call in a thread.

        Raises:
            OSError: the system lets no thread be started.
        """
        return _submit(work, self._pool)

    def close(self, patience: float = inf) -> None:
        """Drop the calls that have not begun, and wait for the others, but no longer than so many seconds.

        A call that runs for longer ends by itself, or with the program.
        """
        interrupted: BaseException | None = None
        while True:
            try:
                self._pool.close(patience)
                break
            except BaseException as error:
                interrupted = interrupted or error
        if interrupted is not None:
            raise interrupted

    def finish(self) -> None:
        """Submit no more. The threads end when all calls are made; this waits for none."""
        self._pool.rest(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def submit(work: Callable[[], T]) -> Task[T]:
    """Make a call in the program's pool; see the module for what it may do.

    Raises:
        OSError: the system lets no thread be started.
    """
    return _submit(work, program())


def wait_for_all(tasks: Iterable[Task[Any]]) -> None:
    """Wait until all calls were made or dropped, even if that is interrupted; raise the interrupt then.

    Errors of the calls are not raised. It is for what has to be closed, and what the calls use.
    """
    interrupted: BaseException | None = None
    for task in list(tasks):
        while not task.done:
            try:
                task.wait()
            except Dropped:
                break
            except BaseException as error:
                interrupted = interrupted or error
    if interrupted is not None:
        raise interrupted


def _submit(work: Callable[[], T], pool: Pool) -> Task[T]:
    if not pool.is_alive:
        raise RuntimeError("the threads were closed, or belong to the process that this one was forked from")
    task = Task(work, pool)
    pool.schedule(task)
    return task
