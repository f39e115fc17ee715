"""Whether this interpreter can be started once more, for work beside."""

from __future__ import annotations

import os
import sys


def interpreter() -> str | None:
    """The program that runs Python; `None` where there is none to be sure of, or no second core for it.

    A frozen program, or one that has a Python in it, would be started as itself: who knows what that would do.
    """
    program = sys.executable or ""
    is_python = os.path.basename(program).startswith("python") and not getattr(sys, "frozen", False)
    return program if is_python and len(os.sched_getaffinity(0)) > 1 else None
