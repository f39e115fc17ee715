"""A second process for copying a large tree: what it is told, and what it answers; see `workers.share`.

It copies directories that the first one has made, by descriptors of the two roots. To the first one it leaves the names of files
that have several, since only one can tell which of them are the same file, and directories that let nobody in once they
have their modes. What it fails at ends the whole copy: the target is incomplete then, and to be removed.
"""

from __future__ import annotations

from typing import Final

from layerstore_core.tree.copy import Copier
from layerstore_core.tree.copy_tasks import Answer, Defaults, done_message, failed_message
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.workers.channel import READY, ParentConnection, Worker

#: How many entries the second process sees before it answers.
_ENTRIES: Final = 1000


def start(source: TreeWalk, target: TreeWalk, defaults: Defaults) -> Worker | None:
    """Start the second process; `None` where that would be no gain, or cannot be done."""
    process = Worker.start(__name__, [source.root_fd, target.root_fd], _ENTRIES)
    if process is not None:
        try:
            process.send((source.root, target.root, tuple(defaults)))
        except OSError:
            pass  # it is gone, and will never be ready
    return process


def work(parent: int, source: int, target: int, entries: int) -> None:
    """What the second process does, until nobody tells it anything any more.

    Args:
        parent: the first process. When that is dead the target may be removed, and nothing is made there any more.
        source: the descriptor of the root to be copied.
        target: that of the root to copy to.
        entries: how many it sees, about, before it answers.
    """
    connection = ParentConnection(parent)
    try:
        names = connection.receive()
        with TreeWalk(source) as here, TreeWalk(target) as there:
            here.root, there.root, (masked, owner) = names  # as messages are to name them
            copier = Copier(
                here, there, Defaults(masked, owner), before_entry=connection.check_parent, skip_hard_links=True
            )
            connection.check_parent()
            connection.send(READY)
            while True:
                waiting = list(connection.receive())
                try:
                    copier.copy(waiting, up_to=entries)
                except EOFError:
                    raise
                except Exception as error:
                    connection.send(failed_message(error))
                    return
                connection.send(
                    done_message(Answer(waiting, copier.skipped_links, copier.inaccessible, dict(copier.left_out)))
                )
                for done in (copier.skipped_links, copier.inaccessible, copier.left_out):
                    done.clear()
    except (OSError, EOFError):
        return
