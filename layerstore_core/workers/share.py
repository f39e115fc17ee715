"""Sharing the work on a tree with a worker process.

Walking a tree consists almost entirely of short system calls. Each call releases and re-acquires the GIL, so threads of
one interpreter slow each other down; a separate process does not. This process sends directories to the worker. The
worker processes about a thousand entries. It answers with its results, and with the directories that it has not
processed. Meanwhile this process works on the other directories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from layerstore_core.workers.channel import Worker

#: The largest number of directories in one message to the worker.
_MAX_SENT: Final = 64

T = TypeVar("T")


def share(
    waiting: list[T],
    process: Worker,
    step: Callable[[], None],
    *,
    pack: Callable[[Sequence[T]], Any],
    take: Callable[[Any], list[T]],
) -> list[T]:
    """Process all waiting tasks, in this process and in the worker.

    Args:
        waiting: the tasks to process. The largest, such as directories near the root, come first.
        process: the worker. It answers each message with one message. It gets no task until it is ready. By then, this
            process has done some thousand entries.
        step: processes one step of `waiting`, in place: it removes the tasks that are done and adds the new ones.
        pack: makes a message of tasks.
        take: processes an answer, and returns the tasks in it that are still to be done.

    Returns:
        The tasks that the worker had when it failed. Its failure ends the sharing, so `waiting` may have tasks left,
        too. Empty if the worker had no tasks.
    """
    sent: list[T] = []
    ready = False
    while waiting or sent:
        if not ready and process.has_sent():
            try:
                process.receive()
            except (OSError, EOFError):
                return []
            ready = True
        if ready and not sent and len(waiting) > 1:
            count = min(len(waiting) // 2, _MAX_SENT)
            sent = waiting[:count]
            del waiting[:count]
            try:
                process.send(pack(sent))
            except OSError:
                return sent
        step()
        if sent and (not waiting or process.has_sent()):
            try:
                answer = process.receive()
            except (OSError, EOFError):
                return sent
            sent = []
            waiting[:0] = take(answer)
    return sent
