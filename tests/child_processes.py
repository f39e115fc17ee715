"""The child processes of the test process."""

from __future__ import annotations

import os
from pathlib import Path


def children() -> set[int]:
    """Return the IDs of this process's children, also of those that have ended and were not waited for.

    Daemons of fixtures are children too: a test that looks for what it has left compares before and after.
    """
    own = str(os.getpid())
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may contain anything; the state and the parent follow it.
            parent = status.read_text().rpartition(")")[2].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == own:
            found.add(int(status.parent.name))
    return found
