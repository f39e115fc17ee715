"""What tests of a second process have in common: programs in its place, and small trees that it has a part in."""

from __future__ import annotations

import marshal
import os
import select
from types import ModuleType
from typing import Any

import pytest

from layerstore_core.workers import channel, share

_READY = marshal.dumps(channel.READY)
#: The beginning of a program that says that it is ready, and has imported os.
READY = f"import os; os.write(0, {len(_READY).to_bytes(8, 'little') + _READY!r}); "
#: Programs that are not to be relied on from the first.
NEVER_READY = [
    pytest.param("", id="ends at once"),
    pytest.param("import os; os.kill(os.getpid(), 9)", id="is killed"),
    pytest.param("import os; os.write(0, (99).to_bytes(8, 'little') + b'x')", id="half a word"),
    pytest.param("import layerstore_core_that_has_gone", id="has lost its package"),
    pytest.param(channel._CODE.replace("work(*", "sys.argv[4] = '1'\nwork(*"), id="is another's child"),
]


def wait_until_ready(patch: pytest.MonkeyPatch) -> None:
    """Have the first process wait for the first word of the second one, which would come too late for a small tree."""
    real = channel.Worker.has_sent

    def has_sent(self: channel.Worker) -> bool:
        if not hasattr(self, "has_been_waited_for"):
            self.has_been_waited_for = True  # type: ignore[attr-defined]
            select.select([self._connection], [], [])
        return real(self)

    patch.setattr(channel.Worker, "has_sent", has_sent)


def share_at_once(patch: pytest.MonkeyPatch, first: ModuleType, second: ModuleType) -> None:
    """Have the second process asked at once, in small portions.

    Args:
        patch: ends it.
        first: `compare` or `copy`.
        second: `compare_process` or `copy_process`.
    """
    patch.setattr(first, "_ENTRIES_BEFORE_WORKER", 1)
    patch.setattr(share, "_MAX_SENT", 3)
    patch.setattr(second, "_ENTRIES", 20)
    patch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    wait_until_ready(patch)


def answers_of(patch: pytest.MonkeyPatch, second: ModuleType) -> list[Any]:
    """What the second process answers from now on."""
    taken: list[Any] = []
    of = second.Answer.of

    def noted(message: Any) -> Any:
        taken.append(of(message))
        return taken[-1]

    patch.setattr(second.Answer, "of", noted)
    return taken
