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
from layerstore_core.diff.tasks import Answer, Directory, Name, Task
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
        self._looked_at = 0
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

    def start(self) -> list[Task]:
        """Compare the roots themselves; return the tasks that follow."""
        return [Task(b"", self._root())]

    def finish(self) -> list[Change]:
        """Return the changes, once everything is compared."""
        self._report_links()
        self._report_directories()
        return [Change(path, self.found[path]) for path in sorted(self.found)]

    def compare(self, waiting: list[Task], *, up_to: int | None = None) -> None:
        """Compare directories with everything in them, the last first.

        Args:
            waiting: the directories, changed in place: done ones are removed, and ones found on the way are added.
            up_to: stop after the directory with which the count reaches this: 1 for each directory, and the number of
                names that the lower tree has in it. `None`: compare everything.
        """
        looked_at = 0
        while waiting and (up_to is None or looked_at < up_to):
            path, directory = waiting.pop()
            try:
                self._upper.enter(path)
            except FileNotFoundError:
                self._note_vanished(path)
                continue
            before = self._looked_at
            waiting += [Task(self._upper.join(below.name), below) for below in self._visit(directory)]
            looked_at += self._looked_at - before + 1

    def root_fds(self) -> tuple[int, int] | None:
        """Return the descriptors of the two roots; `None` if there is no lower tree."""
        return (self._upper.root_fd, self._lower.root_fd) if self._lower is not None else None

    def merge(self, answer: Answer) -> None:
        """Add what another comparison of the same trees has found."""
        self.found.update(answer.found)
        self.names += answer.names

    def _root(self) -> Directory:
        """Compare the roots themselves; return the root as a directory to compare."""
        if self._lower is None:
            if not is_new_root(self._upper.fd, self._root_owner):
                self.found[b"/"] = ChangeKind.ADD
            return Directory("", in_lower=False, untouched=False)
        upper, lower = os.fstat(self._upper.fd), os.fstat(self._lower.fd)
        untouched = self._is_untouched(b"", upper)
        if not untouched and (
            not same_status(upper, lower)
            or not (os.path.samestat(upper, lower) or same_xattrs(self._upper.fd, self._lower.fd))
        ):
            self.found[b"/"] = ChangeKind.MODIFY
        guided = self._touched is not None and upper.st_ino == lower.st_ino
        return Directory("", in_lower=True, untouched=untouched, guided=guided)

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
                    directories.append(Directory(entry.name, in_lower=False, untouched=False))
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
            self._looked_at += len(listing)
        with os.scandir(self._upper.fd) as entries:
            for entry in entries:
                name = entry.name
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    self._note_vanished(self._upper.join(name))
                    continue
                if listing is not None:
                    in_lower = name in listing
                    listing.discard(name)
                else:
                    in_lower = True
                is_directory = stat.S_ISDIR(status.st_mode)
                if in_lower and self._is_untouched(self._upper.join(name), status):
                    if is_directory:
                        directories.append(Directory(name, in_lower=True, untouched=True))
                    continue
                try:
                    if listing is None:
                        self._lower.enter(self._upper.path)
                    lower = os.stat(name, dir_fd=self._lower.fd, follow_symlinks=False) if in_lower else None
                    self._compare_name(name, status, lower)
                except OSError as error:
                    error.filename = self._upper.absolute(name)
                    error.add_note(f"while comparing it with what is in {os.fsdecode(self._lower.root)}")
                    raise
                if is_directory:
                    both = lower is not None and stat.S_ISDIR(lower.st_mode)
                    unread = both and lower is not None and not os.path.samestat(status, lower)
                    directories.append(Directory(name, both, untouched=False, unread=unread))
        for name in listing or ():
            self.found[b"/" + self._upper.join(name)] = ChangeKind.DELETE
        return directories

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
            try:
                lower = os.stat(name, dir_fd=self._lower.fd, follow_symlinks=False)
            except FileNotFoundError:
                lower = None
            self._compare_name(name, status, lower)
            if stat.S_ISDIR(status.st_mode):
                both = lower is not None and stat.S_ISDIR(lower.st_mode)
                same = lower is not None and lower.st_ino == status.st_ino
                guided = both and same
                unread = both and lower is not None and not os.path.samestat(status, lower)
                directories.append(Directory(name, both, untouched=False, guided=guided, unread=unread))
        return directories

    def _compare_name(self, name: str, upper: os.stat_result, lower: os.stat_result | None) -> None:
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

    def _differ(self, name: str, upper: os.stat_result, lower: os.stat_result) -> bool:
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
            return os.readlink(name, dir_fd=self._upper.fd) != os.readlink(name, dir_fd=self._lower.fd)
        return False

    def _files_differ(self, name: str, upper: os.stat_result, lower: os.stat_result) -> bool:
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
