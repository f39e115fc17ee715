"""The changes of a layer, computed from its own directory alone.

A path that is not in the directory is as in the lower layers. So the cost is that of the layer's own files, and not
that of the merged trees. The result is the same as that of `layerstore_core.compare_trees` for the two merged trees:
the same rules decide what a change is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import defaultdict
from dataclasses import dataclass

from layerstore_core import Change, ChangeKind
from layerstore_core.sdk import (
    TreeWalk,
    compare_upper,
    inside,
    is_new_root,
    may_have_holes,
    read_xattrs,
    same_content,
    same_status,
)
from layerstore_overlay.lowers import LowerFile, LowerLayers, OverlayXattrs, Stack, is_whiteout


class NotNativeError(Exception):
    """The upper directory alone does not show the changes; the message says why. Compare the merged trees instead."""


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory of the upper tree that is still to be visited.

    Attributes:
        name: its name in its parent directory.
        stack: the lower directory at the same path; empty if there is none.
        hides: no file of the lower layers shows in it.
        whole: a diff has an opaque whiteout for it or for a directory above, and so all of its files.
    """

    name: str
    stack: Stack
    hides: bool
    whole: bool


@dataclass(frozen=True, slots=True)
class _Name:
    """A name of a file that has, or had, several hard links.

    Attributes:
        path: the path in the layer, absolute.
        upper: device and inode of the upper file.
        lower: device and inode of the lower file at the same path; `None` if there is none.
        lower_links: how many hard links the lower file has.
    """

    path: bytes
    upper: tuple[int, int]
    lower: tuple[int, int] | None
    lower_links: int


class NativeChanges:
    """The changes of one layer.

    Args:
        upper: the layer's own directory.
        lowers: the merged tree of the lower layers.
        xattrs: how overlayfs marks opaque directories here.
        root_owner: user and group of a new base layer's root.

    Attributes:
        opaque: the opaque directories that hide lower files, without those inside of others.

    Raises:
        NotNativeError: overlayfs has stored more than files and marks (redirect_dir, metacopy), a path is too long, or
            hard links outside of the upper directory matter.
        OSError: something cannot be read.
    """

    def __init__(self, upper: str, lowers: LowerLayers, xattrs: OverlayXattrs, root_owner: tuple[int, int]) -> None:
        self._root_owner = root_owner
        self._lowers = lowers
        self._xattrs = xattrs
        self._found: dict[bytes, ChangeKind] = {}
        self._names: list[_Name] = []
        #: Paths in the directories of `opaque`: those that are there, and those that are hidden.
        self._present: list[bytes] = []
        self._hidden: list[bytes] = []
        self.opaque: list[bytes] = []
        try:
            with TreeWalk(upper) as tree:
                self._walk(tree)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise NotNativeError("a path is too long") from error
            raise
        self._report_hard_links()
        _report_directories(self._found)

    def changes(self) -> list[Change]:
        """Return the changes as `compare_trees` returns them for the merged trees."""
        return _as_list(self._found)

    def diff_changes(self) -> list[Change]:
        """Return the changes for a diff.

        They are those of `changes`, with all files of the directories in `opaque`, and without deletions there.
        """
        if not self.opaque:
            return self.changes()
        found = dict(self._found)
        for path in self._hidden:
            del found[path]
        for path in [*self._present, *self.opaque]:
            found.setdefault(path, ChangeKind.MODIFY)
        _report_directories(found)
        return _as_list(found)

    def _walk(self, tree: TreeWalk) -> None:
        pending = [self._visit(tree, self._root(tree))]
        while True:
            if pending[-1]:
                directory = pending[-1].pop()
                try:
                    tree.down(directory.name)
                except FileNotFoundError:
                    continue
                pending.append(self._visit(tree, directory))
            else:
                pending.pop()
                if not pending:
                    return
                tree.up()

    def _root(self, tree: TreeWalk) -> _Directory:
        stack = self._lowers.root
        if stack:
            lower = os.lstat(stack[0])
            if not same_status(os.fstat(tree.fd), lower) or read_xattrs(tree.fd) != read_xattrs(stack[0]):
                self._found[b"/"] = ChangeKind.MODIFY
        elif not is_new_root(tree.fd, self._root_owner):
            self._found[b"/"] = ChangeKind.ADD
        return _Directory("", stack, self._xattrs.is_opaque(tree.fd), whole=False)

    def _visit(self, tree: TreeWalk, directory: _Directory) -> list[_Directory]:
        """Compare the entries of the walk's directory; return the directories among them."""
        stack = directory.stack
        hidden = self._lowers.names(stack) if directory.hides and stack else set()
        directories = []
        for name in self._names_to_compare(tree, directory):
            path = b"/" + tree.join(name)
            try:
                status = os.stat(name, dir_fd=tree.fd, follow_symlinks=False)
                xattr_names = self._xattr_names(tree, name, status)
            except FileNotFoundError:
                continue
            lower = self._lowers.look_up(stack, name) if stack else None
            if is_whiteout(status):
                if lower and not directory.hides:
                    self._found[path] = ChangeKind.DELETE
                continue
            hidden.discard(name)
            if directory.whole:
                self._present.append(path)
            self._compare(tree, name, status, lower)
            if stat.S_ISDIR(status.st_mode):
                opaque = self._xattrs.opaque in xattr_names and self._xattrs.is_opaque(tree.handle(name))
                lower_stack = lower.stack if lower else ()
                whole = directory.whole
                if opaque and not whole and self._lowers.names(lower_stack):
                    whole = True
                    self.opaque.append(path)
                directories.append(_Directory(os.fsdecode(name), lower_stack, directory.hides or opaque, whole))
        for name in hidden:
            path = b"/" + tree.join(name)
            self._found[path] = ChangeKind.DELETE
            if directory.whole:
                self._hidden.append(path)
        return directories

    def _names_to_compare(self, tree: TreeWalk, directory: _Directory) -> list[bytes]:
        """Return the names in the walk's directory, without those that the kernel has found to be added or changed."""
        compared = None if directory.hides or directory.whole else compare_upper(tree.fd, directory.stack)
        if compared is None:
            return [os.fsencode(name) for name in os.listdir(tree.fd)]
        changed, others = compared
        above = b"/" + tree.join(b"") if tree.path else b"/"
        self._found.update([(above + name, kind) for name, kind in changed])
        return others

    def _xattr_names(self, tree: TreeWalk, name: bytes, status: os.stat_result) -> list[str]:
        """Return the names of an upper file's attributes.

        Raises:
            NotNativeError: an attribute says that overlayfs keeps the file's content or name in another place.
        """
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            return []
        try:
            names = os.listxattr(tree.handle(name), follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return []
            raise
        for moved in "redirect", "metacopy":
            if self._xattrs.prefix + moved in names:
                raise NotNativeError(f"{tree.absolute(name)} has the attribute {self._xattrs.prefix}{moved}")
        return names

    def _compare(self, tree: TreeWalk, name: bytes, upper: os.stat_result, lower: LowerFile | None) -> None:
        path = b"/" + tree.join(name)
        if lower is None:
            self._found[path] = ChangeKind.ADD
        elif self._differ(tree, name, upper, lower):
            self._found[path] = ChangeKind.MODIFY
        if stat.S_ISDIR(upper.st_mode):
            return
        links = lower.status.st_nlink if lower and not lower.stack else 1
        if upper.st_nlink > 1 or links > 1:
            lower_inode = (lower.status.st_dev, lower.status.st_ino) if lower else None
            self._names.append(_Name(path, (upper.st_dev, upper.st_ino), lower_inode, links))

    def _differ(self, tree: TreeWalk, name: bytes, upper: os.stat_result, lower: LowerFile) -> bool:
        if not same_status(upper, lower.status):
            return True
        if read_xattrs(tree.handle(name)) != read_xattrs(lower.path):
            return True
        if stat.S_ISLNK(upper.st_mode):
            return os.readlink(name, dir_fd=tree.fd) != os.readlink(lower.path)
        if not stat.S_ISREG(upper.st_mode):
            return False
        first = tree.open_file(name)
        try:
            with inside.open_file(lower.path) as second:
                sparse = may_have_holes(upper) or may_have_holes(lower.status)
                return not same_content(first, second, upper.st_size, sparse)
        finally:
            os.close(first)

    def _report_hard_links(self) -> None:
        """Report the names without which a diff would not show which names are hard links of one file.

        The rule is that of `compare_trees`.
        """
        files: dict[tuple[int, int], list[_Name]] = defaultdict(list)
        known: dict[tuple[int, int], int] = defaultdict(int)
        for name in self._names:
            files[name.upper].append(name)
            if name.lower is not None:
                known[name.lower] += 1
        left: set[tuple[int, int]] = set()
        for names in sorted(files.values(), key=lambda names: min(name.path for name in names)):
            lower = names[0].lower
            is_changed = any(name.path in self._found for name in names) or len({name.lower for name in names}) > 1
            if is_changed or lower is None or lower in left:
                for name in names:
                    self._found.setdefault(name.path, ChangeKind.MODIFY)
            elif known[lower] < names[0].lower_links:
                raise NotNativeError(f"{os.fsdecode(names[0].path)} was copied up without its other hard links")
            else:
                left.add(lower)


def _report_directories(found: dict[bytes, ChangeKind]) -> None:
    """Report the parent directories of all changes."""
    for path in list(found):
        while (path := path.rpartition(b"/")[0]) and path not in found:
            found[path] = ChangeKind.MODIFY


def _as_list(found: dict[bytes, ChangeKind]) -> list[Change]:
    return [Change(path, found[path]) for path in sorted(found)]
