"""The parts of a comparison, and the messages by which two processes share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from layerstore_core.diff.change import ChangeKind


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
        """Read an answer of `compare_worker.work`."""
        found, names, left = message
        return cls(
            {path: ChangeKind(kind) for path, kind in found}, [Name(*name) for name in names], unpack_tasks(left)
        )


def pack_tasks(tasks: Sequence[Task]) -> list[tuple[bytes, tuple[Any, ...]]]:
    """Return directories to compare as a message."""
    return [(path, tuple(directory)) for path, directory in tasks]


def unpack_tasks(tasks: Sequence[tuple[bytes, tuple[Any, ...]]]) -> list[Task]:
    """Return the directories of a message of `pack_tasks`."""
    return [Task(path, Directory(*directory)) for path, directory in tasks]
