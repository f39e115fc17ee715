"""Programs that stand in for a worker process, and settings that give a worker a part of small trees."""

from __future__ import annotations

import marshal
import os
import select
from types import ModuleType
from typing import Any

import pytest

from layerstore_core.workers import channel, share

_READY = marshal.dumps(channel.READY)
#: The beginning of a program: it imports os, and sends `READY`.
READY = f"import os; os.write(0, {len(_READY).to_bytes(8, 'little') + _READY!r}); "
#: Programs that never become a ready worker.
NEVER_READY = [
    pytest.param("", id="ends at once"),
    pytest.param("import os; os.kill(os.getpid(), 9)", id="is killed"),
    pytest.param("import os; os.write(0, (99).to_bytes(8, 'little') + b'x')", id="a part of a message"),
    pytest.param("import layerstore_core_that_has_gone", id="cannot import its package"),
    pytest.param(channel._CODE.replace("work(*", "sys.argv[4] = '1'\nwork(*"), id="has another parent"),
]


def wait_until_ready(patch: pytest.MonkeyPatch) -> None:
    """Let the parent wait for the worker's first message, which would come too late for a small tree."""
    real = channel.Worker.has_sent

    def has_sent(self: channel.Worker) -> bool:
        if not hasattr(self, "has_been_waited_for"):
            self.has_been_waited_for = True  # type: ignore[attr-defined]
            select.select([self._connection], [], [])
        return real(self)

    patch.setattr(channel.Worker, "has_sent", has_sent)


def share_at_once(patch: pytest.MonkeyPatch, coordinator: ModuleType, worker: ModuleType) -> None:
    """Let the parent send tasks to the worker at once, in small portions.

    Args:
        patch: undoes the change at the end of the test.
        coordinator: the module `compare_trees` or `copy_tree`.
        worker: the module `compare_worker` or `copy_worker`.
    """
    patch.setattr(coordinator, "_ENTRIES_BEFORE_WORKER", 1)
    patch.setattr(share, "_MAX_SENT", 3)
    patch.setattr(worker, "_ENTRIES", 20)
    patch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    wait_until_ready(patch)


def answers_of(patch: pytest.MonkeyPatch, messages: ModuleType) -> list[Any]:
    """Return a list that collects the worker's answers from now on.

    Args:
        patch: undoes the change at the end of the test.
        messages: the module with the class `Answer`.
    """
    answers: list[Any] = []
    decode = messages.Answer.of

    def collect(message: Any) -> Any:
        answers.append(decode(message))
        return answers[-1]

    patch.setattr(messages.Answer, "of", collect)
    return answers
