"""A second process for copying a large tree: what it is told, and what it answers; see `archive.sharing`.

It copies directories that the first one has made, by descriptors of the two roots. To the first one it leaves the names of files
that have several, since only one can tell which of them are the same file, and directories that let nobody in once they
have their modes. What it fails at ends the whole copy: the target is incomplete then, and to be removed.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from layerstore_core.workers.channel import READY, HelperProcess, Orders

if TYPE_CHECKING:
    from layerstore_core.tree.walk import Descent

#: How many entries the second process sees before it answers.
_ENTRIES: Final = 1000
#: What an answer tells of.
_DONE, _FAILED = "done", "failed"


class Defaults(NamedTuple):
    """What a new file in the target has by itself: the doing of the umask and of the mount.

    Attributes:
        masked: the mode bits that have to be set by a call of their own.
        owner: user and group.
    """

    masked: int
    owner: tuple[int, int]


@dataclass(slots=True)
class Answer:
    """What the second process has left of what it was given; for the attributes see `copy.Copier`, too.

    Attributes:
        left: directories that are made, and still to be copied.
        unlinked: names in directories.
        locked: directories.
        left_out: counts.
    """

    left: list[bytes]
    unlinked: dict[bytes, list[str]]
    locked: list[bytes]
    left_out: dict[str, int]

    @classmethod
    def of(cls, message: tuple[str, tuple[Any, ...]]) -> Answer:
        """What `work` has sent.

        Raises:
            OSError: what it has met.
        """
        kind, content = message
        if kind == _DONE:
            return cls(*content)
        number, text, path, notes = content
        error = OSError(number, text, path)
        for note in notes:
            error.add_note(note)
        raise error


def start(source: Descent, target: Descent, defaults: Defaults) -> HelperProcess | None:
    """Start the second process; `None` where that would be no gain, or cannot be done."""
    process = HelperProcess.start(__name__, [source.root_fd, target.root_fd], _ENTRIES)
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
    from layerstore_core.tree.copy import Copier
    from layerstore_core.tree.walk import Descent

    orders = Orders(parent)
    try:
        names = orders.receive()
        with Descent(source) as here, Descent(target) as there:
            here.root, there.root, (masked, owner) = names  # as messages are to name them
            copier = Copier(here, there, Defaults(masked, owner), go_on=orders.go_on, leave_links=True)
            orders.go_on()
            orders.send(READY)
            while True:
                waiting = list(orders.receive())
                try:
                    copier.copy(waiting, up_to=entries)
                except EOFError:
                    raise
                except Exception as error:
                    orders.send((_FAILED, _told(error)))
                    return
                orders.send((_DONE, (waiting, copier.unlinked, copier.locked, dict(copier.left_out))))
                for done in (copier.unlinked, copier.locked, copier.left_out):
                    done.clear()
    except (OSError, EOFError):
        return


def _told(error: Exception) -> tuple[int, str, str | bytes | None, list[str]]:
    """An error, as a message: number, text, path, and notes. One of another kind becomes one of a child process."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, OSError):
        return error.errno or 0, error.strerror or str(error), error.filename, notes
    return errno.ECHILD, f"the process that copies a part of a tree has failed: {error!r}", None, notes
