"""Comparing two merged trees: which names were added and deleted, and what differs in files that both have.

Nothing is mounted. Contents are compared by a function that the caller gives, and only where the rest leaves it open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from layerstore_core.diff.change import ChangeKind
from layerstore_core.tar.entry import EntryType
from layerstore_core.view.nodes import FileNode, Node
from layerstore_core.view.tree import TreeView

#: What may differ in a file that both trees have, in the order in which it is reported.
ASPECTS: Final = ("type", "mode", "owner", "mtime", "target", "device", "xattrs", "links", "size", "content")


@dataclass(frozen=True, slots=True)
class TreeChange:
    """A difference between two trees.

    Attributes:
        path: relative to the root, without a slash at the beginning; the root itself is empty.
        kind: whether the path was added, changed or deleted. If a directory was deleted, what was in it is not listed.
        before: the file of the first tree; `None` if it was added.
        after: the file of the second tree; `None` if it was deleted.
        what: of a changed file: what differs, of `ASPECTS`.
    """

    path: bytes
    kind: ChangeKind
    before: Node | None
    after: Node | None
    what: tuple[str, ...] = ()


#: Returns whether two files have the same content.
SameContent = Callable[[FileNode, FileNode], bool]


def compare_views(
    before: TreeView,
    after: TreeView,
    same_content: SameContent,
    *,
    ignore: Collection[str] = (),
    implied: bool = False,
) -> Iterator[TreeChange]:
    """Yield what differs between two trees: parents first, the names of a directory sorted.

    Args:
        before: the first tree.
        after: the second tree.
        same_content: compares two regular files of the same size.
        ignore: what is not compared, of `ASPECTS`.
        implied: whether a directory that no layer describes differs from one that a layer describes. If not, its
            metadata, which is not known, is not compared.

    Raises:
        IntegrityError, InvalidLayer: a layer is damaged.
    """
    links = _Links(before, after) if "links" not in ignore else None
    pending: list[tuple[bytes, Node | None, Node | None]] = [(b"", before.root, after.root)]
    while pending:
        path, old, new = pending.pop()
        if new is None:
            yield TreeChange(path, ChangeKind.DELETE, old, None)
            continue
        inside: Collection[bytes] = new.children
        if old is None:
            yield TreeChange(path, ChangeKind.ADD, None, new)
        else:
            what = _differences(path, old, new, same_content, ignore, links, implied=implied)
            if what:
                yield TreeChange(path, ChangeKind.MODIFY, old, new, what)
            if old.children and new.type is EntryType.DIR:
                inside = old.children.keys() | new.children.keys()
        if inside:
            prefix = path + b"/" if path else b""
            olds = old.children if old is not None else {}
            pending += [
                (prefix + name, olds.get(name), new.children.get(name)) for name in sorted(inside, reverse=True)
            ]


def _differences(  # noqa: PLR0917 - it is called once a file
    path: bytes,
    old: Node,
    new: Node,
    same_content: SameContent,
    ignore: Collection[str],
    links: _Links | None,
    *,
    implied: bool,
) -> tuple[str, ...]:
    if old.type is not new.type:
        return ("type",)
    found = []
    if old.implied or new.implied:
        return ("mode", "owner", "mtime") if implied and old.implied != new.implied else ()
    if old.mode != new.mode:
        found.append("mode")
    if old.uid != new.uid or old.gid != new.gid:
        found.append("owner")
    if old.mtime_ns != new.mtime_ns:
        found.append("mtime")
    if old.linkname != new.linkname:
        found.append("target")
    if (old.devmajor, old.devminor) != (new.devmajor, new.devminor):
        found.append("device")
    if old.xattrs != new.xattrs:
        found.append("xattrs")
    if links is not None and (old.linked or new.linked) and links.differ(path, old, new):
        found.append("links")
    if isinstance(old, FileNode) and isinstance(new, FileNode):
        if old.size != new.size:
            found += ["size", "content"]
        elif "content" not in ignore and not same_content(old, new):
            found.append("content")
    return tuple(one for one in found if one not in ignore)


class _Links:
    """The names of files that have several, in two trees.

    Names that both trees have are one file in both, or in neither: a file's first such name is the same in both trees.
    """

    def __init__(self, before: TreeView, after: TreeView) -> None:
        self._before = self._first_names(before, after)
        self._after = self._first_names(after, before)

    def differ(self, path: bytes, old: Node, new: Node) -> bool:
        """Return whether a path that both trees have shares its file with other paths than before."""
        return self._before.get(id(old), path) != self._after.get(id(new), path)

    @staticmethod
    def _first_names(tree: TreeView, other: TreeView) -> dict[int, bytes]:
        first: dict[int, bytes] = {}
        pending: list[tuple[bytes, Node, Node]] = [(b"", tree.root, other.root)]
        while pending:
            path, node, twin = pending.pop()
            if node.linked:
                first[id(node)] = min(path, first.get(id(node), path))
            prefix = path + b"/" if path else b""
            pending += [
                (prefix + name, child, twin.children[name])
                for name, child in node.children.items()
                if (child.linked or child.children) and name in twin.children
            ]
        return first
