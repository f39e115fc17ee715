"""Worker process for comparing two large trees: its start, its program, its messages; see `workers.share`.

The worker only reads, through descriptors of the two roots, and only reports what it has found. If anything goes
wrong with it (it cannot be started, it is killed, it meets an error), the parent process does the worker's part, and
meets the error itself.
"""

from __future__ import annotations

from typing import Final

from layerstore_core.diff.compare import Comparison
from layerstore_core.diff.tasks import pack_tasks, unpack_tasks
from layerstore_core.workers.channel import READY, ParentConnection, Worker

#: The worker answers after about this many entries.
_ENTRIES: Final = 2000


def start(upper: int, lower: int) -> Worker | None:
    """Start a worker; return `None` if it would save no time, or cannot be started.

    Args:
        upper: a descriptor of the upper tree's root.
        lower: a descriptor of the lower tree's root.
    """
    return Worker.start(__name__, [upper, lower], _ENTRIES)


def work(parent: int, upper: int, lower: int, entries: int) -> None:
    """Run the worker, until its parent sends no more tasks.

    Args:
        parent: the parent process.
        upper: the descriptor of the upper tree's root.
        lower: the descriptor of the lower tree's root.
        entries: answer after about this many entries.
    """
    connection = ParentConnection(parent)
    try:
        with Comparison(upper, lower, None, None) as comparison:
            connection.check_parent()
            connection.send(READY)
            while True:
                waiting = unpack_tasks(connection.receive())
                comparison.compare(waiting, up_to=entries)
                found = [(path, kind.value) for path, kind in comparison.found.items()]
                names = [tuple(name) for name in comparison.names]
                connection.send((found, names, pack_tasks(waiting)))
                comparison.found.clear()
                comparison.names.clear()
    except (OSError, EOFError):
        return  # an error of the comparison will occur in the parent process too, which reports it
