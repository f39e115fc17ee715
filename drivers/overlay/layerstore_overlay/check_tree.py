"""Comparing a layer's own directory with its tar: the layer's files, and the marks that hide files of lower layers.

A path that is not in the directory shows as it is in the lower layers, and is looked up there. So the cost is that of
the layer's own files, and nothing is mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final

from layerstore_core import IDMapping
from layerstore_core.sdk import (
    Difference,
    ExpectedFile,
    ExpectedTree,
    FileChecker,
    LayerEntry,
    ParentDirectory,
    ParentFile,
    TreeWalk,
    UnpackRights,
    inside,
    list_xattrs,
    read_xattrs,
)
from layerstore_overlay.lowers import LowerLayers, OverlayXattrs, is_whiteout

#: Marks that overlayfs sets without changing what is shown. No layer has any of the others.
_HARMLESS: Final = ("opaque", "origin", "impure", "nlink", "upper", "uuid", "protattr")


def check_upper(
    upper: str,
    lowers: LowerLayers,
    xattrs: OverlayXattrs,
    entries: Iterable[LayerEntry],
    *,
    rights: UnpackRights,
    id_mapping: IDMapping,
) -> list[Difference]:
    """Compare a layer's own directory with what its tar makes of the lower layers.

    Args:
        upper: the layer's own directory.
        lowers: the merged tree of the lower layers.
        xattrs: how overlayfs marks opaque directories here.
        entries: the layer's tar.
        rights: what could be set when the layer was unpacked.
        id_mapping: how IDs in the tar correspond to those on disk.

    Raises:
        OSError: something cannot be read.
    """
    with TreeWalk(upper) as tree:
        checker = FileChecker(tree, rights, id_mapping)
        expected = ExpectedTree(entries, _ParentTree(upper, lowers))
        return _UpperComparison(tree, lowers, xattrs, expected, checker).differences()


class _ParentTree:
    """The merged tree of the lower layers, in which the layer's tar looks up paths."""

    def __init__(self, upper: str, lowers: LowerLayers) -> None:
        self._upper = os.fsencode(upper)
        self._lowers = lowers

    def find(self, path: bytes) -> ParentFile | None:
        found = self._lowers.first(path)
        if found is None:
            return None
        if not stat.S_ISLNK(found.status.st_mode):
            return ParentFile(found.status)
        # An entry's path leads through this link. Not all unpackers follow it: Docker replaces it by a directory.
        if _is_directory(os.path.join(self._upper, path)):
            return None
        return ParentFile(found.status, os.readlink(found.path))


class _UpperComparison:
    """The comparison of one layer's own directory with its tar."""

    def __init__(
        self,
        tree: TreeWalk,
        lowers: LowerLayers,
        xattrs: OverlayXattrs,
        expected: ExpectedTree,
        checker: FileChecker,
    ) -> None:
        self._tree = tree
        self._lowers = lowers
        self._xattrs = xattrs
        self._expected = expected
        self._checker = checker
        #: Files that were copied up because the layer adds hard links to them, by their paths in the lower layers.
        self._copied_up = {file.linked_path: file for file in expected.linked.values()}

    def differences(self) -> list[Difference]:
        tree, checker, root = self._tree, self._checker, self._expected.root
        parent_root = _parent_directory(self._lowers.root[0]) if self._lowers.root else None
        checker.check(b"", os.fstat(tree.fd), root, parent_root)
        hides = self._check_marks(b"", root, hides=not self._lowers.root)
        pending = [self._visit(root, hides=hides)]
        while pending:
            if pending[-1]:
                name, expected, hides = pending[-1].pop()
                tree.down(name)
                pending.append(self._visit(expected, hides=hides))
                continue
            pending.pop()
            if pending:
                tree.up()
        checker.check_hard_links()
        for path in self._copied_up:
            if not self._expected.deletes(path) and not os.path.lexists(os.path.join(tree.root, path)):
                checker.differences.append(Difference(path, "is missing: the layer has another name of this file"))
        checker.report_missing_targets(self._expected)
        return checker.differences

    def _visit(self, expected: ExpectedFile | None, *, hides: bool) -> list[tuple[bytes, ExpectedFile | None, bool]]:
        """Compare the entries of the walk's directory.

        Args:
            expected: the directory as the tar has it; `None` if the tar does not name it.
            hides: no file of the lower layers shows in it.

        Returns:
            The directories to visit next: for each its name and the two arguments of this method.
        """
        tree, checker = self._tree, self._checker
        children = expected.children if expected is not None else {}
        with os.scandir(tree.fd) as entries:
            here = {os.fsencode(entry.name): entry.stat(follow_symlinks=False) for entry in entries}
        directories: list[tuple[bytes, ExpectedFile | None, bool]] = []
        for name in sorted(here.keys() | children.keys()):
            status = here.get(name)
            if name not in children:
                assert status is not None
                if self._is_copied_up(name, status):
                    if stat.S_ISDIR(status.st_mode):
                        directories.append((name, None, hides))
                elif is_whiteout(status):
                    checker.report(name, "is hidden by a whiteout, and the layer's tar does not delete it")
                else:
                    checker.report(name, "is there, and the layer's tar has it not")
                continue
            child = children[name]
            if child is None:
                if status is None:
                    if not hides and self._lowers.first(tree.join(name)) is not None:
                        checker.report(name, "shows again: the whiteout of what the layer deletes is missing")
                elif not is_whiteout(status):
                    checker.report(name, "is there, and the layer deletes it")
            elif status is None:
                if not checker.may_be_missing(child):
                    checker.report(name, "is missing")
            else:
                parent_directory = None
                if child.kind == stat.S_IFDIR and not child.metas:
                    found = self._lowers.first(tree.join(name))
                    if found is not None and stat.S_ISDIR(found.status.st_mode):
                        parent_directory = _parent_directory(found.path)
                if not checker.check(name, status, child, parent_directory, self._lower_root_of(child)):
                    continue
                if child.kind == stat.S_IFDIR:
                    directories.append((name, child, self._check_marks(name, child, hides=hides)))
                else:
                    self._check_moved(name)
        return directories

    def _check_marks(self, name: bytes, expected: ExpectedFile, *, hides: bool) -> bool:
        """Check overlayfs's marks of a directory; return whether it hides all files of the lower layers."""
        self._check_moved(name)
        is_opaque = self._xattrs.is_opaque(self._tree.handle(name or b"."))
        if not hides and is_opaque == expected.merged:
            path = self._tree.join(name) if name else b""
            shows = self._lowers.names(self._lowers.directory(path))
            if shows and is_opaque:
                self._checker.report(name, "is marked as opaque, and hides what it has below")
            elif shows:
                self._checker.report(name, "is not marked as opaque: what the layer hides shows again")
        return hides or is_opaque or not expected.merged

    def _check_moved(self, name: bytes) -> None:
        """Report marks by which overlayfs takes a file's name or content from another place, or hides the file."""
        for mark in list_xattrs(self._tree.handle(name or b".")):
            if mark.startswith(self._xattrs.prefix) and mark.removeprefix(self._xattrs.prefix) not in _HARMLESS:
                self._checker.report(name, f"has the attribute {mark}, which no layer has")

    def _is_copied_up(self, name: bytes, status: os.stat_result) -> bool:
        """Return whether an entry is there because the layer adds a hard link to a file of a lower layer.

        Such a file is copied up with all its names: the entry is one of these names, or a directory on the way to one.
        """
        if not self._copied_up:
            return False
        path = self._tree.join(name)
        if stat.S_ISDIR(status.st_mode):
            return any(known.startswith(path + b"/") for known in self._copied_up) or self._is_lower_directory(path)
        file = self._copied_up.get(path)
        if file is None:
            found = self._lowers.first(path)
            if found is not None:
                file = self._expected.linked.get((found.status.st_dev, found.status.st_ino))
        return file is not None and self._checker.check(name, status, file, None, self._lower_root_of(file))

    def _is_lower_directory(self, path: bytes) -> bool:
        found = self._lowers.first(path)
        return found is not None and stat.S_ISDIR(found.status.st_mode)

    def _lower_root_of(self, file: ExpectedFile) -> str:
        """Return the directory of the lower layer that has the file to which the layer adds hard links; or `""`."""
        if file.linked is None:
            return ""
        found = self._lowers.first(file.linked_path)
        return os.fsdecode(found.path[: -len(file.linked_path)]) if found is not None else ""


def _parent_directory(path: bytes) -> ParentDirectory:
    with inside.open_directory(path) as fd:
        return ParentDirectory(os.fstat(fd), read_xattrs(fd))


def _is_directory(path: bytes) -> bool:
    """Return whether a directory is at `path`; a symbolic link to one does not count."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
