"""What a layer changes, from its own directory alone: what is not there is as it is below.

The answer is that of `layerstore_core.diff.compare` for the two merged trees, at the cost of the change
and not of the trees: the same rules of what is a change, applied to what stands in the upper directory.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import defaultdict
from dataclasses import dataclass

from layerstore_core import Change, ChangeKind
from layerstore_core.sdk import TreeWalk, inside, is_new_root, may_have_holes, read_xattrs, same_content, same_status
from layerstore_overlay.lowers import Found, LowerLayers, OverlayXattrs, Stack, is_whiteout


class NotNativeError(Exception):
    """The upper directory alone does not tell; the message says why. The merged trees have to be compared."""


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory of the upper tree, to be looked into.

    Attributes:
        name: in the directory above.
        stack: the directory below, empty where there is none.
        hides: nothing below shows through.
        whole: a diff has all of it, under an opaque whiteout.
    """

    name: str
    stack: Stack
    hides: bool
    whole: bool


@dataclass(frozen=True, slots=True)
class _Name:
    """A name of a file that has, or had, several."""

    path: bytes
    upper: tuple[int, int]
    lower: tuple[int, int] | None
    lower_links: int


class NativeChanges:
    """The changes of one layer.

    Args:
        upper: its own directory.
        below: the merged tree of the layers below.
        xattrs: how overlayfs marks opaque directories here.
        root_owner: user and group of a new base layer's root.

    Raises:
        NotNativeError: overlayfs has written down more than files and marks (redirect_dir, metacopy), paths are
            too long, or names outside of the upper directory matter.
        OSError: something cannot be read.
    """

    def __init__(self, upper: str, below: LowerLayers, xattrs: OverlayXattrs, root_owner: tuple[int, int]) -> None:
        self._root_owner = root_owner
        self._below = below
        self._xattrs = xattrs
        self._found: dict[bytes, ChangeKind] = {}
        self._names: list[_Name] = []
        #: Paths below opaque directories that hide something: those that are there, and those that are hidden.
        self._present: list[bytes] = []
        self._hidden: list[bytes] = []
        #: The opaque directories that hide something, without those in others.
        self.opaque: list[bytes] = []
        try:
            with TreeWalk(upper) as tree:
                self._walk(tree)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise NotNativeError("a path is too long") from error
            raise
        self._report_links()
        _report_directories(self._found)

    def changes(self) -> list[Change]:
        """As `compare_trees` gives them for the merged trees."""
        return _as_list(self._found)

    def diff_changes(self) -> list[Change]:
        """What a diff has to bring: as `changes`, but the directories in `opaque` whole, and nothing deleted in them."""
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
        stack = self._below.root
        if stack:
            lower = os.lstat(stack[0])
            if not same_status(os.fstat(tree.fd), lower) or read_xattrs(tree.fd) != read_xattrs(stack[0]):
                self._found[b"/"] = ChangeKind.MODIFY
        elif not is_new_root(tree.fd, self._root_owner):
            self._found[b"/"] = ChangeKind.ADD
        return _Directory("", stack, self._xattrs.is_opaque(tree.fd), whole=False)

    def _visit(self, tree: TreeWalk, directory: _Directory) -> list[_Directory]:
        """Look at what is in the present directory; returns the directories in it."""
        stack = directory.stack
        hidden = self._below.names(stack) if directory.hides and stack else set()
        directories = []
        with os.scandir(tree.fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                path = b"/" + tree.join(name)
                try:
                    status = entry.stat(follow_symlinks=False)
                    xattr_names = self._read_names(tree, name, status)
                except FileNotFoundError:
                    continue
                lower = self._below.look_up(stack, name) if stack else None
                if is_whiteout(status):
                    if lower and not directory.hides:
                        self._found[path] = ChangeKind.DELETE
                    continue
                hidden.discard(name)
                if directory.whole:
                    self._present.append(path)
                self._pair(tree, name, status, lower)
                if stat.S_ISDIR(status.st_mode):
                    opaque = self._xattrs.opaque in xattr_names and self._xattrs.is_opaque(tree.handle(name))
                    below = lower.stack if lower else ()
                    whole = directory.whole
                    if opaque and not whole and self._below.names(below):
                        whole = True
                        self.opaque.append(path)
                    directories.append(_Directory(entry.name, below, directory.hides or opaque, whole))
        for name in hidden:
            path = b"/" + tree.join(name)
            self._found[path] = ChangeKind.DELETE
            if directory.whole:
                self._hidden.append(path)
        return directories

    def _read_names(self, tree: TreeWalk, name: bytes, status: os.stat_result) -> list[str]:
        """The names of an upper file's attributes, which must not tell of data or a name kept elsewhere."""
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

    def _pair(self, tree: TreeWalk, name: bytes, upper: os.stat_result, lower: Found | None) -> None:
        path = b"/" + tree.join(name)
        if lower is None:
            self._found[path] = ChangeKind.ADD
        elif self._differ(tree, name, upper, lower):
            self._found[path] = ChangeKind.MODIFY
        if stat.S_ISDIR(upper.st_mode):
            return
        links = lower.status.st_nlink if lower and not lower.stack else 1
        if upper.st_nlink > 1 or links > 1:
            below = (lower.status.st_dev, lower.status.st_ino) if lower else None
            self._names.append(_Name(path, (upper.st_dev, upper.st_ino), below, links))

    def _differ(self, tree: TreeWalk, name: bytes, upper: os.stat_result, lower: Found) -> bool:
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

    def _report_links(self) -> None:
        """Report the names without which nobody could say which names are one file: compare's rule."""
        files: dict[tuple[int, int], list[_Name]] = defaultdict(list)
        known: dict[tuple[int, int], int] = defaultdict(int)
        for name in self._names:
            files[name.upper].append(name)
            if name.lower is not None:
                known[name.lower] += 1
        left: set[tuple[int, int]] = set()
        for names in sorted(files.values(), key=lambda names: min(name.path for name in names)):
            lower = names[0].lower
            brought = any(name.path in self._found for name in names) or len({name.lower for name in names}) > 1
            if brought or lower is None or lower in left:
                for name in names:
                    self._found.setdefault(name.path, ChangeKind.MODIFY)
            elif known[lower] < names[0].lower_links:
                raise NotNativeError(f"{os.fsdecode(names[0].path)} was copied up and left its other names behind")
            else:
                left.add(lower)


def _report_directories(found: dict[bytes, ChangeKind]) -> None:
    """Report the directories above all changes."""
    for path in list(found):
        while (path := path.rpartition(b"/")[0]) and path not in found:
            found[path] = ChangeKind.MODIFY


def _as_list(found: dict[bytes, ChangeKind]) -> list[Change]:
    return [Change(path, found[path]) for path in sorted(found)]
