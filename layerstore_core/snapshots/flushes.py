"""Flushes to disk that serve many threads at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final


class JoinedFlushes:
    """Flushes of the same file systems for many threads: one serves all that asked before it began.

    Args:
        flush: writes all data that was written before the call to disk; `None` if nothing is to be flushed.
    """

    def __init__(self, flush: Callable[[], None] | None) -> None:
        self._flush_all: Final = flush
        self._known: Final = Lock()  # guards the numbers
        self._flushing: Final = Lock()  # one flush at a time
        self._asked = 0
        self._flushed = 0
        self._failures = 0
        self._failure: Exception | None = None

    @contextmanager
    def watching(self) -> Iterator[Callable[[], None]]:
        """Watch for errors of writes in a block, and yield a function that flushes what the block has written.

        The kernel reports a failed write to one flush only. So the function also raises the error of a flush for
        another thread since the block began: what failed may have been this block's.
        """
        with self._known:
            failures = self._failures
        yield lambda: self._flush(failures)

    def _flush(self, failures: int) -> None:
        if self._flush_all is None:
            return
        with self._known:
            self._asked += 1
            mine = self._asked
        with self._flushing:
            if self._flushed < mine:
                with self._known:
                    serves = self._asked
                try:
                    self._flush_all()
                except Exception as error:
                    with self._known:
                        self._failures += 1
                        self._failure = error
                self._flushed = serves
        with self._known:
            failed = self._failures != failures
        if failed and self._failure is not None:
            raise self._failure
