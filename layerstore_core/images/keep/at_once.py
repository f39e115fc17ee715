"""Several pieces of work at once, in threads that need not be waited for after an error."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import Final, TypeVar

from layerstore_core.base.threads import Threads

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
        name: the name of the threads.

    Returns:
        The results, by the keys.

    Raises:
        BaseException: what the first job raised that failed. Threads that are still busy end by themselves, or with the
            process.
    """
    done: SimpleQueue[tuple[Key, Result | None, BaseException | None]] = SimpleQueue()

    def work(key: Key) -> None:
        if stopped.is_set():
            return
        try:
            done.put((key, jobs[key](), None))
        except BaseException as error:
            done.put((key, None, error))  # before the others fail, because this is set
            stopped.set()

    own = Threads(name, min(threads, len(jobs)))
    results: dict[Key, Result] = {}
    try:
        for key in jobs:
            own.submit(partial(work, key))
        for _ in jobs:
            key, result, error = done.get()
            if error is not None:
                raise error
            results[key] = result  # type: ignore[assignment]
    except BaseException:
        stopped.set()
        own.close(_PATIENCE)
        raise
    own.close()
    return results
