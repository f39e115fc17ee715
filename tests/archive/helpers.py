"""What tests of a second process have in common: programs in its place, and small trees that it has a part in."""

from __future__ import annotations

import marshal
import select

import pytest

from layerstore_core.archive import helper_process

_READY = marshal.dumps(helper_process.READY)
#: The beginning of a program that says that it is ready, and has imported os.
READY = f"import os; os.write(0, {len(_READY).to_bytes(8, 'little') + _READY!r}); "
#: Programs that are not to be relied on from the first.
NEVER_READY = [
    pytest.param("", id="ends at once"),
    pytest.param("import os; os.kill(os.getpid(), 9)", id="is killed"),
    pytest.param("import os; os.write(0, (99).to_bytes(8, 'little') + b'x')", id="half a word"),
    pytest.param("import layerstore_core_that_has_gone", id="has lost its package"),
    pytest.param(helper_process._CODE.replace("work(*", "sys.argv[4] = '1'\nwork(*"), id="is another's child"),
]


def wait_until_ready(patch: pytest.MonkeyPatch) -> None:
    """Have the first process wait for the first word of the second one, which would come too late for a small tree."""
    real = helper_process.HelperProcess.has_sent

    def has_sent(self: helper_process.HelperProcess) -> bool:
        if not hasattr(self, "has_been_waited_for"):
            self.has_been_waited_for = True  # type: ignore[attr-defined]
            select.select([self._connection], [], [])
        return real(self)

    patch.setattr(helper_process.HelperProcess, "has_sent", has_sent)
