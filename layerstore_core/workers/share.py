"""Sharing work on a tree with a second process.

Nearly all the time of going through a tree goes into short system calls. Threads of one interpreter hinder each other at
each of these; a process of its own does not. The first process hands directories to the second one, which does a thousand
entries or so, and says what has come of it and what it has not come to; meanwhile the first one goes on with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from layerstore_core.workers.channel import Worker

#: How many directories are handed over at most at a time.
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
    """Do all that waits, here and in the other process.

    Args:
        waiting: what is to be done; that which has most below it comes first.
        process: the other one; it answers each message with one. Until it is ready, which takes as long as some thousand
            entries do, it is given nothing.
        step: does something of what waits here: what is done is taken out, and what is left to be done is put in.
        pack: makes a message of things to do.
        take: takes in an answer; returns what of it is still to be done.

    Returns:
        What was given to the other process when it failed, which ends the sharing: there may be something waiting, too.
        Empty where it had nothing.
    """
    given: list[T] = []
    ready = False
    while waiting or given:
        if not ready and process.has_sent():
            try:
                process.receive()
            except (OSError, EOFError):
                return []
            ready = True
        if ready and not given and len(waiting) > 1:
            count = min(len(waiting) // 2, _MAX_SENT)
            given = waiting[:count]
            del waiting[:count]
            try:
                process.send(pack(given))
            except OSError:
                return given
        step()
        if given and (not waiting or process.has_sent()):
            try:
                answer = process.receive()
            except (OSError, EOFError):
                return given
            given = []
            waiting[:0] = take(answer)
    return given
