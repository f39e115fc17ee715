"""Worker process for copying a large tree: its start, its program, its messages; see `workers.share`.

The worker copies directories that its parent process has made, through descriptors of the two roots. It leaves two
things to the parent: hard-linked files, since only one process can know which names belong together, and directories
whose mode denies access once it is set. An error of the worker ends the whole copy: the target is then incomplete, and
has to be removed.
"""

from __future__ import annotations

from typing import Final

from layerstore_core.tree.copy import Copier
from layerstore_core.tree.copy_tasks import Answer, Defaults, done_message, failed_message
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.workers.channel import READY, ParentConnection, Worker

#: The worker answers after about this many entries.
_ENTRIES: Final = 1000


def start(source: TreeWalk, target: TreeWalk, defaults: Defaults) -> Worker | None:
    """Start a worker; return `None` if it would save no time, or cannot be started."""
    process = Worker.start(__name__, [source.root_fd, target.root_fd], _ENTRIES)
    if process is not None:
        try:
            process.send((source.root, target.root, tuple(defaults)))
        except OSError:
            pass  # the worker is gone, and will never be ready
    return process


def work(parent: int, source: int, target: int, entries: int) -> None:
    """Run the worker, until its parent sends no more tasks.

    Args:
        parent: the parent process. Once it is dead the target may be removed, so nothing more is made there.
        source: the descriptor of the root to copy.
        target: the descriptor of the root to copy to.
        entries: answer after about this many entries.
    """
    connection = ParentConnection(parent)
    try:
        names = connection.receive()
        with TreeWalk(source) as here, TreeWalk(target) as there:
            here.root, there.root, (masked, owner) = names  # the paths for error messages
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
