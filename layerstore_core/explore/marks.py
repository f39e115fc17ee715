"""What a layer, or a comparison, has done to each path: the marks of a tree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from layerstore_core.diff.change import ChangeKind
from layerstore_core.view.analysis.layers import PathChange
from layerstore_core.view.nodes import Node


class Mark(Enum):
    """What was done to a path; the values are words of the filter."""

    SAME = "same"
    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"
    MOVED = "moved"

    @property
    def letter(self) -> str:
        """The letter that stands for it in a tree; a blank for nothing."""
        return " " if self is Mark.SAME else self.name[0] if self is not Mark.CHANGED else "C"


class Marked(NamedTuple):
    """What was done to one path.

    Attributes:
        mark: what.
        before: the file before; `None` if there was none.
        moved: the path that the file was moved to, or from.
        what: what differs, of the aspects of `layerstore_core.view.compare`; empty if that was not compared.
    """

    mark: Mark
    before: Node | None
    moved: bytes | None = None
    what: tuple[str, ...] = ()


@dataclass(frozen=True)
class Marks:
    """What was done to the paths of a tree.

    Attributes:
        paths: what was done to each path that has a mark of its own.
        inside: the directories in which paths have marks, the root among them.
        deleted: by directory: the names in it that are gone, and the files as they were.
    """

    paths: dict[bytes, Marked] = field(default_factory=dict)
    inside: set[bytes] = field(default_factory=set)
    deleted: dict[bytes, dict[bytes, Node]] = field(default_factory=dict)

    def add(self, path: bytes, marked: Marked) -> None:
        """Give a path its mark."""
        self.paths[path] = marked
        directory, _, name = path.rpartition(b"/")
        if marked.before is not None and marked.mark is Mark.DELETED and path:
            self.deleted.setdefault(directory, {})[name] = marked.before
        while directory not in self.inside:
            self.inside.add(directory)
            directory = directory.rpartition(b"/")[0]

    def count(self, mark: Mark) -> int:
        """Return how many paths have a mark. A deleted directory counts as one."""
        return sum(one.mark is mark for one in self.paths.values())


def marks_of(changes: Iterable[PathChange]) -> Marks:
    """Return the marks of changes.

    A file that was moved is marked as moved where it is now, and as deleted where it was.

    Args:
        changes: what was changed, as `layerstore_core.view.analysis.layers` finds it.
    """
    marks = Marks()
    for path, kind, before, _, moved in changes:
        mark = _MARKS[kind]
        if moved is not None and kind is ChangeKind.ADD:
            mark = Mark.MOVED
        marks.add(path, Marked(mark, before, moved))
    return marks


_MARKS = {ChangeKind.ADD: Mark.ADDED, ChangeKind.MODIFY: Mark.CHANGED, ChangeKind.DELETE: Mark.DELETED}
