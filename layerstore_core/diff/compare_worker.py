"""A second process for comparing two large trees: what it is told, and what it answers; see `workers.share`.

The second process only reads, by descriptors of the two roots, and only tells what it has found. Whatever goes wrong
with it (it cannot be started, it is killed, it meets an error), the first one does what it was given, and meets the error
itself.
"""

from __future__ import annotations

from typing import Final

from layerstore_core.diff.compare import Comparison
from layerstore_core.diff.tasks import pack_tasks, unpack_tasks
from layerstore_core.workers.channel import READY, ParentConnection, Worker

#: How many entries the second process looks at before it answers.
_ENTRIES: Final = 2000


def start(upper: int, lower: int) -> Worker | None:
    """Start the second process; `None` where that would be no gain, or cannot be done.

    Args:
        upper: a descriptor of the upper tree's root.
        lower: one of the lower tree's.
    """
    return Worker.start(__name__, [upper, lower], _ENTRIES)


def work(parent: int, upper: int, lower: int, entries: int) -> None:
    """What the second process does, until nobody tells it anything any more.

    Args:
        parent: the first process.
        upper: the descriptor of the upper tree's root.
        lower: that of the lower tree's.
        entries: how many it looks at, about, before it answers.
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
        return  # if it is an error, the first process will meet it too, and tell
