"""Tasks of a comparison, and the messages by which two processes share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from layerstore_core.diff.change import ChangeKind


class Directory(NamedTuple):
    """Directory of the upper tree that is to be compared."""

    name: str
    #: The lower tree has a directory of this path.
    in_lower: bool
    #: No name in it was added or removed since the stamps were taken.
    untouched: bool
    #: It has the same inode number as the lower tree's directory, so `touched` says what has changed in it.
    guided: bool = False
    #: Its attributes were not yet compared with the lower tree's. That is done when both directories are open.
    unread: bool = False


class Name(NamedTuple):
    """Name of a file that has several names in the upper or the lower tree."""

    path: bytes
    upper: tuple[int, int]
    lower: tuple[int, int] | None


class Task(NamedTuple):
    """Task of comparing a directory with everything in it."""

    path: bytes
    directory: Directory


@dataclass(slots=True)
class Answer:
    """Answer of the worker.

    Attributes:
        found: the differences, by path.
        names: the names of hard-linked files.
        left: the tasks that are still to be done.
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
    """Return a message for tasks."""
    return [(path, tuple(directory)) for path, directory in tasks]


def unpack_tasks(tasks: Sequence[tuple[bytes, tuple[Any, ...]]]) -> list[Task]:
    """Return the tasks of a message from `pack_tasks`."""
    return [Task(path, Directory(*directory)) for path, directory in tasks]
