"""Several pieces of work at once, in threads that nobody has to wait for after an error."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import Final, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")

#: After an error the other threads are waited for so many seconds. A server that is silent may hold them much longer.
_PATIENCE: Final = 1.0


def at_once(jobs: Mapping[Key, Callable[[], Result]], *, threads: int, stopped: Event, name: str) -> dict[Key, Result]:
    """Do some work in several threads.

    Args:
        jobs: the work, by a key. It looks at `stopped` often, and changes nothing that is shared after that is set.
        threads: how many threads there are at most.
        stopped: is set at the first error, and where this thread is interrupted. What is not begun yet is left then.
        name: the beginning of the threads' names.

    Returns:
        The results, by the keys.

    Raises:
        BaseException: what the first job raised that failed. Threads that are still busy end by themselves, or with the
            process.
    """
    waiting: SimpleQueue[Key] = SimpleQueue()
    done: SimpleQueue[tuple[Key, Result | None, BaseException | None]] = SimpleQueue()
    for key in jobs:
        waiting.put(key)

    def work() -> None:
        while not stopped.is_set():
            try:
                key = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((key, jobs[key](), None))
            except BaseException as error:
                done.put((key, None, error))  # before the others fail, because this is set
                stopped.set()

    workers = [Thread(target=work, name=f"{name}-{number}", daemon=True) for number in range(min(threads, len(jobs)))]
    results: dict[Key, Result] = {}
    try:
        for worker in workers:
            worker.start()
        for _ in jobs:
            key, result, error = done.get()
            if error is not None:
                raise error
            results[key] = result  # type: ignore[assignment]
    except BaseException:
        stopped.set()
        until = monotonic() + _PATIENCE
        for worker in workers:
            if worker.ident is not None:
                worker.join(max(0.0, until - monotonic()))
        raise
    for worker in workers:
        worker.join()
    return results
