"""A second process for comparing two large trees: what it is told, and what it answers; see `archive.sharing`.

The second process only reads, by descriptors of the two roots, and only tells what it has found. Whatever goes wrong
with it (it cannot be started, it is killed, it meets an error), the first one does what it was given, and meets the error
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from layerstore_core.diff.change import ChangeKind
from layerstore_core.workers.channel import READY, HelperProcess, Orders

#: How many entries the second process looks at before it answers.
_ENTRIES: Final = 2000


class Directory(NamedTuple):
    """A directory of the upper tree that is to be looked into."""

    name: str
    #: There is such a directory in the lower tree.
    in_lower: bool
    #: No name in it has come or gone since the stamps were taken.
    untouched: bool
    #: It is the directory which the lower tree has there, and `touched` tells of what is in it.
    guided: bool = False
    #: Its attributes and those of the directory in the lower tree are not compared yet: that is done when both are open.
    unread: bool = False


class Name(NamedTuple):
    """A name of a file that has, or had, several."""

    path: bytes
    upper: tuple[int, int]
    lower: tuple[int, int] | None


class Task(NamedTuple):
    """A directory that is to be compared with all that is in it."""

    path: bytes
    directory: Directory


@dataclass(slots=True)
class Answer:
    """What the second process has done of what it was given.

    Attributes:
        found: what differs, by path.
        names: the names of files that have several.
        left: what is still to be done.
    """

    found: dict[bytes, ChangeKind]
    names: list[Name]
    left: list[Task]

    @classmethod
    def of(cls, message: Any) -> Answer:
        """What `work` has sent."""
        found, names, left = message
        return cls({path: ChangeKind(kind) for path, kind in found}, [Name(*name) for name in names], _unpacked(left))


def start(upper: int, lower: int) -> HelperProcess | None:
    """Start the second process; `None` where that would be no gain, or cannot be done.

    Args:
        upper: a descriptor of the upper tree's root.
        lower: one of the lower tree's.
    """
    return HelperProcess.start(__name__, [upper, lower], _ENTRIES)


def packed(tasks: Sequence[Task]) -> list[tuple[bytes, tuple[Any, ...]]]:
    """Directories to compare, as a message for it."""
    return [(path, tuple(directory)) for path, directory in tasks]


def work(parent: int, upper: int, lower: int, entries: int) -> None:
    """What the second process does, until nobody tells it anything any more.

    Args:
        parent: the first process.
        upper: the descriptor of the upper tree's root.
        lower: that of the lower tree's.
        entries: how many it looks at, about, before it answers.
    """
    from layerstore_core.diff.compare import Comparison

    orders = Orders(parent)
    try:
        with Comparison(upper, lower, None, None) as comparison:
            orders.go_on()
            orders.send(READY)
            while True:
                waiting = _unpacked(orders.receive())
                comparison.compare(waiting, up_to=entries)
                found = [(path, kind.value) for path, kind in comparison.found.items()]
                names = [tuple(name) for name in comparison.names]
                orders.send((found, names, packed(waiting)))
                comparison.found.clear()
                comparison.names.clear()
    except (OSError, EOFError):
        return  # if it is an error, the first process will meet it too, and tell


def _unpacked(tasks: Sequence[tuple[bytes, tuple[Any, ...]]]) -> list[Task]:
    return [Task(path, Directory(*directory)) for path, directory in tasks]
