"""Calls that are made in order, while the code that puts them goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock, RLock
from typing import Self

from layerstore_core.base.threads.pool import PATIENCE, Pool, is_in, program


class Lane:
    """Calls that are made one at a time, in the order in which they were put; a context manager that closes it.

    A lane belongs to one thread, which puts the calls. They run in any thread of the pool, so they must not wait for
    anything but the processor and local files, and they must put nothing into lanes. If a lane is deleted, the calls
    that have not begun are dropped.

    Args:
        name: what the calls do, for messages; the name of the thread if it has its own.
        depth: how many calls may be unfinished. So the memory that calls refer to is bounded.
        waits: whether calls may wait for something: then the lane has a thread of its own.
    """

    def __init__(self, name: str, *, depth: int = 4, waits: bool = False) -> None:
        self._calls = _Calls(name, waits=waits)
        self._depth = depth

    def put(self, work: Callable[[], object]) -> None:
        """Put a call. Wait while `depth` calls are unfinished.

        Raises:
            BaseException: what the first call raised that failed. After that no call is made.
            OSError: the system lets no thread be started.
        """
        self._calls.wait(self._depth - 1, work)

    def drain(self) -> None:
        """Wait until all calls are done.

        Raises:
            BaseException: as from `put`.
        """
        self._calls.wait(0)

    def close(self) -> None:
        """Drop the calls that have not begun, and wait for the one that runs.

        No error of a call is raised. A second call does nothing.
        """
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._calls.abandon()


class _Calls:
    """The calls of a lane. Threads have no reference to the lane: so one that is not used any more is deleted."""

    def __init__(self, name: str, *, waits: bool) -> None:
        self._name = name
        self._own = waits
        #: The pool is chosen at the first call, so that a lane that was not used before a fork can be used after it.
        self._pool: Pool | None = None
        self._lock = RLock()
        self._calls: deque[Callable[[], object]] = deque()
        self._running = False
        #: Whether the pool has this as a step. An interrupted `wait` may leave a second one there, which does nothing.
        self._scheduled = False
        self._error: BaseException | None = None
        self._closed = False
        #: Is released when a call is done.
        self._waiter: Lock | None = None

    def wait(self, unfinished: int, work: Callable[[], object] | None = None) -> None:
        """Wait until there are only so many unfinished calls. Then put another one, if it is given.

        Raises:
            BaseException: what the first call raised that failed.
        """
        pool = self._chosen_pool()
        while True:
            with self._lock:
                if self._error is not None:
                    raise self._error
                if self._closed:
                    raise RuntimeError(f"the lane {self._name} was closed")
                fits = len(self._calls) + self._running <= unfinished
                if fits and work is not None:
                    self._calls.append(work)
                # Also where a wait before this one was interrupted, after it put a call and before it scheduled it.
                if self._calls and not (self._running or self._scheduled):
                    pool.schedule(self)
                    self._scheduled = True
                if fits:
                    return
                self._waiter = waiter = Lock()
                waiter.acquire()
            waiter.acquire()

    def close(self) -> None:
        """See `Lane.close`."""
        self._drop()
        pool = self._pool
        if pool is None or not pool.is_alive or is_in(pool):
            return  # the garbage collector may close a lane in any thread; one of the pool must not wait
        interrupted: BaseException | None = None
        while True:
            # A call may use descriptors that will be closed next: so it is waited for, even if that is interrupted.
            try:
                with self._lock:
                    if not self._running:
                        break
                    self._waiter = waiter = Lock()
                    waiter.acquire()
                waiter.acquire()
            except BaseException as error:
                interrupted = interrupted or error
        if self._own:
            pool.close(PATIENCE)
        if interrupted is not None:
            raise interrupted

    def abandon(self) -> None:
        """Drop the calls that have not begun. This takes no lock, so that the garbage collector can call it."""
        self._drop()
        if self._own and self._pool is not None:
            self._pool.abandon()

    def _drop(self) -> None:
        self._closed = True
        self._calls.clear()
        self._error = None  # it refers to the frames that it was raised in, and they to the lane

    def _chosen_pool(self) -> Pool:
        if self._pool is None:
            self._pool = Pool(self._name, lambda: 1) if self._own else program()
        if not self._pool.is_alive:
            raise RuntimeError(
                f"the lane {self._name} belongs to the process that this one was forked from, or has ended"
            )
        if is_in(self._pool):
            raise RuntimeError(f"a call that holds a thread of the pool must not wait for the lane {self._name}")
        return self._pool

    def drop(self) -> None:
        """See `Step.drop`: a lane closes only a pool of its own."""

    def run(self) -> None:
        """Make the next call, and go on while nothing else waits for a thread; see `Step.run`."""
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Make the next call; return whether this thread is to make another one."""
        with self._lock:
            self._scheduled = False
            if self._running:
                return False
            try:
                work = self._calls.popleft()
            except IndexError:  # dropped
                return False
            self._running = True
        failed: BaseException | None = None
        try:
            work()
        except BaseException as error:
            failed = error
        del work  # before the call is known to be done, and its memory used again
        goes_on = False
        with self._lock:
            self._running = False
            if failed is not None:
                self._calls.clear()
                if not self._closed:
                    self._error = failed
                failed = None  # it refers to this frame
            waiter, self._waiter = self._waiter, None
            if self._calls and self._pool is not None:
                # Another thread would have to be woken for it, and this one would have nothing to do.
                goes_on = not self._pool.is_asked
                if not goes_on:
                    self._pool.schedule(self)
                self._scheduled = True
        if waiter is not None:
            waiter.release()
        return goes_on
