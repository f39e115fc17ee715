"""Comparing the whole tree of a layer with what its tar and its parent make of it.

All that a user of the mounted layer can see is compared: names, types, permission bits, owners, times, extended
attributes, link targets, device numbers, contents, and which names are hard links of one file. What the unpacking
process had no rights to make is not reported as missing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from layerstore_core.tree.idmap import IDMapping
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.tree.xattrs import read_xattrs
from layerstore_core.verify.content import same_in_both
from layerstore_core.verify.difference import TYPE_NAMES, Difference, device_text, time_text
from layerstore_core.verify.expected import ExpectedFile, ExpectedTree, LayerEntry, ParentFile
from layerstore_core.verify.file_checker import FileChecker, ParentDirectory
from layerstore_core.verify.unpack_rights import UnpackRights


def check_tree(
    upper: str, lower: str | None, entries: Iterable[LayerEntry], *, rights: UnpackRights, id_mapping: IDMapping
) -> list[Difference]:
    """Compare the whole tree of a layer with its parent's tree and with its tar.

    All files are read: an inherited file is not taken for unchanged because its time is the same.

    Args:
        upper: the layer's tree.
        lower: the parent's tree, which is taken to be right; `None` for a base layer.
        entries: the layer's tar.
        rights: what could be set when the layer was unpacked.
        id_mapping: how IDs in the tar correspond to those on disk.

    Raises:
        OSError: something cannot be read.
    """
    with TreeWalk(upper) as tree:
        if lower is None:
            return _TreeComparison(tree, None, ExpectedTree(entries, None), rights, id_mapping).differences()
        with TreeWalk(lower) as parent:
            expected = ExpectedTree(entries, _ParentWalk(parent, tree))
            return _TreeComparison(tree, parent, expected, rights, id_mapping).differences()


class _ParentWalk:
    """The parent's tree, in which paths are looked up one directory at a time."""

    def __init__(self, tree: TreeWalk, upper: TreeWalk) -> None:
        self._tree = tree
        self._upper = os.fsencode(upper.root)

    def find(self, path: bytes) -> ParentFile | None:
        directory, _, base = path.rpartition(b"/")
        try:
            status = os.stat(base, dir_fd=self._tree.enter(directory), follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                return ParentFile(status)
            # An entry's path leads through this link. Some unpackers replace such a link by a directory, and not all
            # replace the same ones: the layer's tree shows whether this was replaced.
            if _is_directory(os.path.join(self._upper, path)):
                return None
            return ParentFile(status, os.readlink(base, dir_fd=self._tree.fd))
        except (FileNotFoundError, NotADirectoryError):
            return None


class _TreeComparison:
    """The comparison of one layer's tree with its parent's tree and its tar."""

    def __init__(
        self,
        upper: TreeWalk,
        lower: TreeWalk | None,
        expected: ExpectedTree,
        rights: UnpackRights,
        id_mapping: IDMapping,
    ) -> None:
        self._upper = upper
        self._lower = lower
        self._expected = expected
        self._checker = FileChecker(upper, rights, id_mapping)

    def differences(self) -> list[Difference]:
        checker, root, lower = self._checker, self._expected.root, self._lower
        if lower is not None:
            lower.enter(b"")
        parent_directory = ParentDirectory(os.fstat(lower.fd), read_xattrs(lower.fd)) if lower is not None else None
        checker.check(b"", os.fstat(self._upper.fd), root, parent_directory)
        pending = [self._visit(root, both=lower is not None and root.merged)]
        while pending:
            if pending[-1]:
                name, expected, both = pending[-1].pop()
                self._upper.down(name)
                if both and lower is not None:
                    lower.enter(self._upper.path)
                pending.append(self._visit(expected, both=both))
                continue
            pending.pop()
            if pending:
                self._upper.up()
        checker.check_hard_links()
        checker.report_missing_targets(self._expected)
        return checker.differences

    def _visit(self, expected: ExpectedFile | None, *, both: bool) -> list[tuple[bytes, ExpectedFile | None, bool]]:
        """Compare the entries of the walk's directory.

        Args:
            expected: the directory as the tar has it; `None` if the tar does not name it.
            both: the parent has the directory, too, and its content shows.

        Returns:
            The directories to visit next: for each its name and the two arguments of this method.
        """
        checker = self._checker
        children = expected.children if expected is not None else {}
        here, lower = _statuses(self._upper), _statuses(self._lower) if both and self._lower is not None else {}
        directories: list[tuple[bytes, ExpectedFile | None, bool]] = []
        for name in sorted(here.keys() | children.keys() | lower.keys()):
            status, parent_status = here.get(name), lower.get(name)
            if name in children:
                child = children[name]
                if child is not None and status is not None:
                    shared = child.merged and parent_status is not None and stat.S_ISDIR(parent_status.st_mode)
                    if shared and parent_status is not None and not child.metas:  # the layer only writes in it
                        right = self._is_inherited(name, status, parent_status, times=False)
                    else:
                        right = checker.check(name, status, child, None, self._lower_path)
                    if right and child.kind == stat.S_IFDIR:
                        directories.append((name, child, shared))
                elif child is not None:
                    if not checker.may_be_missing(child):
                        checker.report(name, f"is missing ({TYPE_NAMES.get(child.kind)})")
                elif status is not None:
                    checker.report(name, "is there, and the layer deletes it")
            elif parent_status is None:
                checker.report(name, "is there, and neither the layer's tar nor its parent has it", inherited=True)
            elif status is None:
                checker.report(name, "is missing; the parent has it", inherited=True)
            elif self._is_inherited(name, status, parent_status) and stat.S_ISDIR(status.st_mode):
                directories.append((name, None, True))
        return directories

    @property
    def _lower_path(self) -> str:
        return os.fsdecode(self._lower.root) if self._lower is not None else ""

    def _is_inherited(
        self, name: bytes, status: os.stat_result, parent_status: os.stat_result, *, times: bool = True
    ) -> bool:
        """Compare a file with the parent's file, which it should equal; return whether the types are the same."""
        linked = self._expected.linked.get((parent_status.st_dev, parent_status.st_ino))
        if linked is not None:
            return self._checker.check(name, status, linked, None, self._lower_path)
        kind = stat.S_IFMT(status.st_mode)
        if kind != stat.S_IFMT(parent_status.st_mode):
            was = TYPE_NAMES.get(stat.S_IFMT(parent_status.st_mode))
            self._checker.report(name, f"is {TYPE_NAMES.get(kind)}, and its parent has {was}", inherited=True)
            return False
        for what in self._changes(name, status, parent_status, times):
            self._checker.report(name, f"has another {what} than in the parent", inherited=True)
        if kind != stat.S_IFDIR and (status.st_nlink > 1 or parent_status.st_nlink > 1):
            self._checker.note_hard_link(name, status, (parent_status.st_dev, parent_status.st_ino))
        return True

    def _changes(
        self, name: bytes, status: os.stat_result, parent_status: os.stat_result, times: bool
    ) -> Iterator[str]:
        """Yield what differs between a file of the layer and the parent's file at the same path."""
        if os.path.samestat(status, parent_status):
            return
        assert self._lower is not None
        if status.st_mode != parent_status.st_mode:
            yield f"mode ({stat.S_IMODE(status.st_mode):04o})"
        if (status.st_uid, status.st_gid) != (parent_status.st_uid, parent_status.st_gid):
            yield f"owner ({status.st_uid}:{status.st_gid})"
        if times and status.st_mtime_ns != parent_status.st_mtime_ns:
            yield f"time ({time_text(status.st_mtime_ns)})"
        if status.st_rdev != parent_status.st_rdev:
            yield f"device number ({device_text(status.st_rdev)})"
        found, wanted = read_xattrs(self._upper.handle(name)), read_xattrs(self._lower.handle(name))
        if found != self._checker.expected_xattrs(wanted, found):
            yield "set of extended attributes"
        if stat.S_ISLNK(status.st_mode):
            if os.readlink(name, dir_fd=self._upper.fd) != os.readlink(name, dir_fd=self._lower.fd):
                yield "target"
        elif stat.S_ISREG(status.st_mode) and not same_in_both(self._upper, self._lower, name, status, parent_status):
            yield "content"


def _statuses(tree: TreeWalk) -> dict[bytes, os.stat_result]:
    """Return the status of each entry in the walk's directory, by name."""
    os.lseek(tree.fd, 0, os.SEEK_SET)
    with os.scandir(tree.fd) as entries:
        return {os.fsencode(entry.name): entry.stat(follow_symlinks=False) for entry in entries}


def _is_directory(path: bytes) -> bool:
    """Return whether a directory is at `path`; a symbolic link to one does not count."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
