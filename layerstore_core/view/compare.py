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
        if old is new and (links is None or not links.may_differ_in(old)):
            continue  # both trees share it
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
            olds, news = old.children if old is not None else {}, new.children
            if links is None or not links.differ_in_shared:
                inside = [name for name in inside if olds.get(name) is not news.get(name)]
            pending += [(prefix + name, olds.get(name), news.get(name)) for name in sorted(inside, reverse=True)]


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

    Attributes:
        differ_in_shared: whether files that both trees share have other names in one of them than in the other.
    """

    def __init__(self, before: TreeView, after: TreeView) -> None:
        self._before: dict[int, bytes] = {}
        self._after: dict[int, bytes] = {}
        #: The identities of such files, and of the directories that they are in.
        self._differing: set[int] = set()
        shared = self._collect(before.root, after.root)
        for path, node in shared:
            if self._before[id(node)] != self._after[id(node)]:
                self._differing |= _identities(before.root, path)
        self.differ_in_shared = bool(self._differing)

    def differ(self, path: bytes, old: Node, new: Node) -> bool:
        """Return whether a path that both trees have shares its file with other paths than before."""
        return self._before.get(id(old), path) != self._after.get(id(new), path)

    def may_differ_in(self, shared: Node | None) -> bool:
        """Return whether `differ` may be true for a file that both trees share, or for one in such a directory."""
        return id(shared) in self._differing

    def _collect(self, before: Node, after: Node) -> list[tuple[bytes, Node]]:
        """Find the first names; return the names of the files that both trees share."""
        shared = []
        pending: list[tuple[bytes, Node, Node]] = [(b"", before, after)]
        while pending:
            path, old, new = pending.pop()
            for node, first in ((old, self._before), (new, self._after)):
                if node.linked:
                    first[id(node)] = min(path, first.get(id(node), path))
            if old is new and old.linked:
                shared.append((path, old))
            prefix = path + b"/" if path else b""
            twins = new.children
            pending += [
                (prefix + name, child, twin)
                for name, child in old.children.items()
                if (twin := twins.get(name)) is not None
                and (child.linked or twin.linked or (child.children and twin.children))
            ]
        return shared


def _identities(root: Node, path: bytes) -> set[int]:
    """Return the identities of a file and of the directories that it is in."""
    found, node = {id(root)}, root
    for name in path.split(b"/"):
        node = node.children[name]
        found.add(id(node))
    return found
