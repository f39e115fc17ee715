"""Comparing a layer's own directory with its tar: its files, and the marks that hide what is below.

What is not in the directory shows as it is below, and is looked at there. So each layer costs what it has, and nothing is
mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final

from layerstore_core.base import inside
from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.tree.xattrs import list_xattrs, read_xattrs
from layerstore_core.verify.expected import Brought, Expected, Found, Node
from layerstore_core.verify.verify import Below, Difference, Judge, Rights, is_directory
from layerstore_overlay.lowers import LowerLayers, OverlayXattrs, is_whiteout

#: Marks that overlayfs gives files by itself and that change nothing of what is shown; all others are no layer's.
_HARMLESS: Final = ("opaque", "origin", "impure", "nlink", "upper", "uuid", "protattr")


def differences(
    upper: str,
    below: LowerLayers,
    xattrs: OverlayXattrs,
    entries: Iterable[Brought],
    *,
    rights: Rights,
    id_mapping: IDMapping,
) -> list[Difference]:
    """Compare a layer's own directory with what its tar makes of the layers below.

    Args:
        upper: the directory.
        below: the merged tree of the layers below.
        xattrs: how overlayfs marks opaque directories here.
        entries: the layer's tar.
        rights: what could be set when the layer was unpacked.
        id_mapping: how IDs in the tar correspond to those on disk.

    Raises:
        OSError: something cannot be read.
    """
    with TreeWalk(upper) as tree:
        judge = Judge(tree, rights, id_mapping)
        return _Own(tree, below, xattrs, Expected(entries, _Below(upper, below)), judge).differences()


class _Below:
    """The layers below, as the layer's tar found them."""

    def __init__(self, upper: str, below: LowerLayers) -> None:
        self._upper = os.fsencode(upper)
        self._below = below

    def find(self, path: bytes) -> Found | None:
        found = self._below.first(path)
        if found is None:
            return None
        if not stat.S_ISLNK(found.status.st_mode):
            return Found(found.status)
        # Not all unpackers go through a link that is in the way: Docker puts a directory in its place.
        if is_directory(os.path.join(self._upper, path)):
            return None
        return Found(found.status, os.readlink(found.path))


class _Own:
    """One comparison."""

    def __init__(
        self, tree: TreeWalk, below: LowerLayers, xattrs: OverlayXattrs, expected: Expected, judge: Judge
    ) -> None:
        self._tree = tree
        self._below = below
        self._xattrs = xattrs
        self._expected = expected
        self._judge = judge
        #: Where the names are that files below have besides the one that is linked to: they come up with it.
        self._brought_up = {node.linked_path: node for node in expected.linked.values()}

    def differences(self) -> list[Difference]:
        tree, judge, root = self._tree, self._judge, self._expected.root
        judge.judge(b"", os.fstat(tree.fd), root, _below(self._below.root[0]) if self._below.root else None)
        hides = self._marks(b"", root, hides=not self._below.root)
        pending = [self._visit(root, hides=hides)]
        while pending:
            if pending[-1]:
                name, node, hides = pending[-1].pop()
                tree.down(name)
                pending.append(self._visit(node, hides=hides))
                continue
            pending.pop()
            if pending:
                tree.up()
        judge.judge_links()
        for path in self._brought_up:
            if not self._expected.deletes(path) and not os.path.lexists(os.path.join(tree.root, path)):
                judge.found.append(Difference(path, "is missing: the layer has another name of this file"))
        for name, target in self._expected.missing:
            judge.found.append(
                Difference(name, f"is a hard link to {os.fsdecode(target)!r}, which is not there", inherited=True)
            )
        return judge.found

    def _visit(self, node: Node | None, *, hides: bool) -> list[tuple[bytes, Node | None, bool]]:
        """Compare what is in a directory; returns the directories to go into: name, node, whether all below is hidden."""
        tree, judge = self._tree, self._judge
        children = node.children if node is not None else {}
        with os.scandir(tree.fd) as entries:
            here = {os.fsencode(entry.name): entry.stat(follow_symlinks=False) for entry in entries}
        directories: list[tuple[bytes, Node | None, bool]] = []
        for name in sorted(here.keys() | children.keys()):
            status = here.get(name)
            if name not in children:
                assert status is not None
                if self._is_brought_up(name, status):
                    if stat.S_ISDIR(status.st_mode):
                        directories.append((name, None, hides))
                elif is_whiteout(status):
                    judge.tell(name, "is hidden by a whiteout, and the layer's tar does not delete it")
                else:
                    judge.tell(name, "is there, and the layer's tar has it not")
                continue
            child = children[name]
            if child is None:
                if status is None:
                    if not hides and self._below.first(tree.join(name)) is not None:
                        judge.tell(name, "shows again: the whiteout of what the layer deletes is missing")
                elif not is_whiteout(status):
                    judge.tell(name, "is there, and the layer deletes it")
            elif status is None:
                if not judge.may_lack(child):
                    judge.tell(name, "is missing")
            else:
                lower = None
                if child.kind == stat.S_IFDIR and not child.metas:
                    found = self._below.first(tree.join(name))
                    if found is not None and stat.S_ISDIR(found.status.st_mode):
                        lower = _below(found.path)
                if not judge.judge(name, status, child, lower, self._lower_of(child)):
                    continue
                if child.kind == stat.S_IFDIR:
                    directories.append((name, child, self._marks(name, child, hides=hides)))
                else:
                    self._own_marks(name)
        return directories

    def _marks(self, name: bytes, node: Node, *, hides: bool) -> bool:
        """Compare a directory's marks; returns whether all below it is hidden."""
        self._own_marks(name)
        is_opaque = self._xattrs.is_opaque(self._tree.handle(name or b"."))
        if not hides and is_opaque == node.merged:
            path = self._tree.join(name) if name else b""
            shows = self._below.names(self._below.directory(path))
            if shows and is_opaque:
                self._judge.tell(name, "is marked as opaque, and hides what it has below")
            elif shows:
                self._judge.tell(name, "is not marked as opaque: what the layer hides shows again")
        return hides or is_opaque or not node.merged

    def _own_marks(self, name: bytes) -> None:
        """Look for marks by which overlayfs takes a name or content from another place, or hides what has them."""
        for mark in list_xattrs(self._tree.handle(name or b".")):
            if mark.startswith(self._xattrs.prefix) and mark.removeprefix(self._xattrs.prefix) not in _HARMLESS:
                self._judge.tell(name, f"has the attribute {mark}, which no layer has")

    def _is_brought_up(self, name: bytes, status: os.stat_result) -> bool:
        """Whether something stands there for a hard link to a file below: a name of that file, or a directory on the way."""
        if not self._brought_up:
            return False
        path = self._tree.join(name)
        if stat.S_ISDIR(status.st_mode):
            return any(known.startswith(path + b"/") for known in self._brought_up) or self._shows_directory(path)
        node = self._brought_up.get(path)
        if node is None:
            found = self._below.first(path)
            if found is not None:
                node = self._expected.linked.get((found.status.st_dev, found.status.st_ino))
        return node is not None and self._judge.judge(name, status, node, None, self._lower_of(node))

    def _shows_directory(self, path: bytes) -> bool:
        found = self._below.first(path)
        return found is not None and stat.S_ISDIR(found.status.st_mode)

    def _lower_of(self, node: Node) -> str:
        """The directory of the layer below in which a file is that has got another name."""
        if node.linked is None:
            return ""
        found = self._below.first(node.linked_path)
        return os.fsdecode(found.path[: -len(node.linked_path)]) if found is not None else ""


def _below(path: bytes) -> Below:
    with inside.open_directory(path) as fd:
        return Below(os.fstat(fd), read_xattrs(fd))
