"""Comparison of two trees: the changes that make the lower tree into the upper one.

Two files are equal if type, mode, owner, device, size, modification time to the nanosecond, link target, extended
attributes, content, and their other names (hard links) are equal. For directories, size and modification time do not
count, as in Docker (moby issue 9874): a temporary file that was created and removed is no change. A directory with a
change in it is reported as changed itself, as in Docker, so that a layer contains its time.

Content is read only if nothing cheaper decides. In this order:

1. A different status shows that the files differ.
2. The same inode on the same device is the same file. On another device the inode number proves nothing. Nor does an
   equal change time (ctime): the clock ticks coarsely, and a snapshot may be changed in the tick in which it was taken.
3. With `stamps`, an upper file that still has its stamp is as it was when the stamp was taken: see `diff.stamps`. This
   does not count on another device than the root's (a mount, another subvolume). The order of ctimes proves nothing: a
   clock can be set.
4. Attributes, and then content, are read and compared.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from typing import Self

from layerstore_core.diff.change import Change, ChangeKind, TouchedPaths
from layerstore_core.diff.stamps import Stamps
from layerstore_core.diff.tasks import Directory, Name
from layerstore_core.tree.equal import is_new_root, same_content, same_status
from layerstore_core.tree.extents import may_have_holes
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.tree.xattrs import same_xattrs


class Comparison:
    """Comparison of two trees; see `compare_trees`.

    Attributes:
        found: the differences found, by path.
        names: the names of hard-linked files.
    """

    def __init__(
        self,
        upper: str | os.PathLike[str] | int,
        lower: str | os.PathLike[str] | int | None,
        touched: TouchedPaths | None,
        stamps: Stamps | None,
        root_owner: tuple[int, int] | None = None,
    ) -> None:
        self._root_owner = root_owner or (os.geteuid(), os.getegid())
        self._touched = touched
        self._stamps = stamps
        self.found: dict[bytes, ChangeKind] = {}
        self.names: list[Name] = []
        self._upper = TreeWalk(upper)
        self._device = os.fstat(self._upper.fd).st_dev
        self._lower: TreeWalk | None = None
        try:
            self._lower = TreeWalk(lower) if lower is not None else None
        except BaseException:
            self._upper.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._upper.close()
        if self._lower is not None:
            self._lower.close()

    @property
    def is_for_kernel(self) -> bool:
        """Whether the kernel can compare the trees: there are two, and no touched paths."""
        return self._lower is not None and self._touched is None

    @property
    def stamps(self) -> Stamps | None:
        """The stamps of the upper tree."""
        return self._stamps

    @property
    def device(self) -> int:
        """The device of the upper tree's root."""
        return self._device

    def walks(self) -> list[TreeWalk]:
        """Return new walks through the two trees, for another thread, which has to close them."""
        return [walk.again() for walk in (self._upper, self._lower) if walk is not None]

    def compare(self, directory: Directory) -> list[Directory]:
        """Compare what is in a directory; return the directories in it."""
        try:
            self._upper.enter(directory.path)
        except FileNotFoundError:
            self._note_vanished(directory.path)
            return []
        return self._visit(directory)

    def compare_path(self, path: bytes) -> list[Directory]:
        """Compare one name of the upper or the lower tree; return the directory that is there, if it is one."""
        assert self._lower is not None
        parent, _, base = path.rpartition(b"/")
        self._upper.enter(parent)
        self._lower.enter(parent)
        try:
            status = os.stat(base, dir_fd=self._upper.fd, follow_symlinks=False)
        except FileNotFoundError:
            self._note_vanished(path)
            return []
        below = self._compare_entry(base, status, self._lower_status(base))
        return [below] if below else []

    def finish(self) -> list[Change]:
        """Return the changes, once everything is compared."""
        self._report_links()
        self._report_directories()
        return [Change(path, self.found[path]) for path in sorted(self.found)]

    def compare_roots(self) -> Directory:
        """Compare the roots themselves; return the root as a directory to compare."""
        if self._lower is None:
            if not is_new_root(self._upper.fd, self._root_owner):
                self.found[b"/"] = ChangeKind.ADD
            return Directory(b"", in_lower=False, untouched=False)
        upper, lower = os.fstat(self._upper.fd), os.fstat(self._lower.fd)
        untouched = self._is_untouched(b"", upper)
        if not untouched and (
            not same_status(upper, lower)
            or not (os.path.samestat(upper, lower) or same_xattrs(self._upper.fd, self._lower.fd))
        ):
            self.found[b"/"] = ChangeKind.MODIFY
        guided = self._touched is not None and upper.st_ino == lower.st_ino
        return Directory(b"", in_lower=True, untouched=untouched, guided=guided)

    def _is_untouched(self, path: bytes, status: os.stat_result) -> bool:
        """Return whether the upper tree's file at `path` is certainly as it was when its stamp was taken."""
        return self._stamps is not None and status.st_dev == self._device and self._stamps.match(path, status)

    def _visit(self, directory: Directory) -> list[Directory]:
        """Compare the content of the upper tree's current directory; return the directories in it."""
        if directory.unread:
            self._compare_attributes()
        if directory.guided and self._touched is not None:
            return self._compare_touched(self._touched)
        if directory.in_lower:
            return self._compare(directory)
        return self._add_all()

    def _note_vanished(self, path: bytes) -> None:
        """Record that a name listed in the upper tree is gone. Without a record it would count as unchanged."""
        self.found.pop(b"/" + path, None)
        if self._lower is None:
            return
        parent, _, base = path.rpartition(b"/")
        try:
            os.stat(base, dir_fd=self._lower.enter(parent), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return
        self.found[b"/" + path] = ChangeKind.DELETE

    def _compare_attributes(self) -> None:
        """Compare the attributes of the current directories."""
        assert self._lower is not None
        path = b"/" + self._upper.path
        if path not in self.found:
            try:
                if not same_xattrs(self._upper.fd, self._lower.enter(self._upper.path)):
                    self.found[path] = ChangeKind.MODIFY
            except OSError as error:
                error.filename = error.filename or self._upper.absolute(b"")
                raise

    def _add_all(self) -> list[Directory]:
        """Record everything in the upper tree's current directory as added; return the directories in it."""
        directories = []
        with os.scandir(self._upper.fd) as entries:
            for entry in entries:
                path = b"/" + self._upper.join(entry.name)
                self.found[path] = ChangeKind.ADD
                if entry.is_dir(follow_symlinks=False):
                    directories.append(Directory(path[1:], in_lower=False, untouched=False))
                elif self._lower is not None:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        del self.found[path]
                        continue
                    if status.st_nlink > 1:
                        self.names.append(Name(path, (status.st_dev, status.st_ino), None))
        return directories

    def _compare(self, directory: Directory) -> list[Directory]:
        """Compare all names in the current directories; return the upper tree's directories."""
        assert self._lower is not None
        directories = []
        # If no name was added or removed, the lower directory need not even be listed.
        listing: set[str] | None = None
        if not directory.untouched:
            listing = set(os.listdir(self._lower.enter(self._upper.path)))
        with os.scandir(self._upper.fd) as entries:
            for entry in entries:
                name = entry.name
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    self._note_vanished(self._upper.join(name))
                    continue
                in_lower = listing is None or name in listing
                if listing is not None:
                    listing.discard(name)
                if in_lower and self._is_untouched(self._upper.join(name), status):
                    if stat.S_ISDIR(status.st_mode):
                        directories.append(Directory(self._upper.join(name), in_lower=True, untouched=True))
                    continue
                try:
                    if listing is None:
                        self._lower.enter(self._upper.path)
                    lower = self._lower_status(name) if in_lower else None
                except OSError as error:
                    self._add_context(error, name)
                    raise
                if below := self._compare_entry(name, status, lower):
                    directories.append(below)
        for name in listing or ():
            self.found[b"/" + self._upper.join(name)] = ChangeKind.DELETE
        return directories

    def _lower_status(self, name: str | bytes) -> os.stat_result | None:
        """Return the status of what has this name in the lower tree; `None` if nothing has."""
        assert self._lower is not None
        try:
            return os.stat(name, dir_fd=self._lower.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _add_context(self, error: OSError, name: str | bytes) -> None:
        """Add the paths of a name in the current directories to an error."""
        assert self._lower is not None
        error.filename = self._upper.absolute(name)
        error.add_note(f"while comparing it with what is in {os.fsdecode(self._lower.root)}")

    def _compare_touched(self, touched: TouchedPaths) -> list[Directory]:
        """Do what `_compare` does, but look only at touched paths."""
        assert self._lower is not None
        path = self._upper.path
        self._lower.enter(path)
        names = touched.names_in(path)
        if path in touched:
            present, before = _inodes_in(self._upper.fd), _inodes_in(self._lower.fd)
            # A file of the lower tree may have been replaced since; nothing in the upper tree shows that.
            names |= {name for name, inode in present.items() if before.get(name) != inode}
            for name in before.keys() - present.keys():
                self.found[b"/" + self._upper.join(name)] = ChangeKind.DELETE
        directories = []
        for name in names:
            try:
                status = os.stat(name, dir_fd=self._upper.fd, follow_symlinks=False)
            except FileNotFoundError:
                self._note_vanished(self._upper.join(name))
                continue
            lower = self._lower_status(name)
            if below := self._compare_entry(name, status, lower):
                guided = lower is not None and stat.S_ISDIR(lower.st_mode) and lower.st_ino == status.st_ino
                directories.append(below._replace(guided=guided))
        return directories

    def _compare_entry(
        self, name: str | bytes, upper: os.stat_result, lower: os.stat_result | None
    ) -> Directory | None:
        """Compare a name's files in the two trees; return the upper tree's directory, which is to be compared."""
        try:
            self._compare_name(name, upper, lower)
        except OSError as error:
            self._add_context(error, name)
            raise
        if not stat.S_ISDIR(upper.st_mode):
            return None
        both = lower is not None and stat.S_ISDIR(lower.st_mode)
        unread = both and lower is not None and not os.path.samestat(upper, lower)
        return Directory(self._upper.join(name), both, untouched=False, unread=unread)

    def _compare_name(self, name: str | bytes, upper: os.stat_result, lower: os.stat_result | None) -> None:
        """Compare a name's files in the two trees, but not the content or the attributes of directories."""
        if lower is None:
            self.found[b"/" + self._upper.join(name)] = ChangeKind.ADD
        elif self._differ(name, upper, lower):
            self.found[b"/" + self._upper.join(name)] = ChangeKind.MODIFY
        if stat.S_ISDIR(upper.st_mode):
            return
        if upper.st_nlink > 1 or (lower is not None and lower.st_nlink > 1 and not stat.S_ISDIR(lower.st_mode)):
            below = (lower.st_dev, lower.st_ino) if lower is not None else None
            self.names.append(Name(b"/" + self._upper.join(name), (upper.st_dev, upper.st_ino), below))

    def _differ(self, name: str | bytes, upper: os.stat_result, lower: os.stat_result) -> bool:
        """Return whether a name's files differ, apart from the content and the attributes of directories."""
        if not same_status(upper, lower):
            return True
        if os.path.samestat(upper, lower):
            return False
        if stat.S_ISREG(upper.st_mode):
            return self._files_differ(name, upper, lower)
        if stat.S_ISDIR(upper.st_mode):
            return False
        assert self._lower is not None
        if not same_xattrs(self._upper.handle(name), self._lower.handle(name)):
            return True
        if stat.S_ISLNK(upper.st_mode):
            link = os.fsencode(name)
            return os.readlink(link, dir_fd=self._upper.fd) != os.readlink(link, dir_fd=self._lower.fd)
        return False

    def _files_differ(self, name: str | bytes, upper: os.stat_result, lower: os.stat_result) -> bool:
        assert self._lower is not None
        first = self._upper.open_file(name)
        try:
            second = self._lower.open_file(name)
            try:
                if not same_xattrs(first, second):
                    return True
                sparse = may_have_holes(upper) or may_have_holes(lower)
                return not same_content(first, second, upper.st_size, sparse)
            finally:
                os.close(second)
        finally:
            os.close(first)

    def _report_links(self) -> None:
        """Report further names of hard-linked files, so that the layer says which names belong to one file.

        The names that a layer contains are linked to each other, and the names that it does not contain stay linked as
        they are. So a layer contains either all names of a file, or none. And if one file has become several, only one
        of them may stay out of the layer.
        """
        files: dict[tuple[int, int], list[Name]] = defaultdict(list)
        for name in self.names:
            files[name.upper].append(name)
        left: dict[tuple[int, int], list[Name]] = {}
        for names in sorted(files.values(), key=lambda names: min(name.path for name in names)):
            before = {name.lower for name in names}
            lower = names[0].lower
            in_layer = any(name.path in self.found for name in names)
            if in_layer or len(before) > 1 or lower is None or lower in left:
                for name in names:
                    self.found.setdefault(name.path, ChangeKind.MODIFY)
            else:
                left[lower] = names

    def _report_directories(self) -> None:
        """Report the parent directories of all changes."""
        for path in list(self.found):
            while (path := path.rpartition(b"/")[0]) and path not in self.found:
                self.found[path] = ChangeKind.MODIFY


def _inodes_in(directory: int) -> dict[str, int]:
    with os.scandir(directory) as entries:
        return {entry.name: entry.inode() for entry in entries}
