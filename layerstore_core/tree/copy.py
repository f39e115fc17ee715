"""Copying a tree exactly: content, holes, names of one file, owners, modes, attributes, devices and times."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import Counter
from collections.abc import Callable
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.descriptors import Descriptor, open_fd
from layerstore_core.errors import BadRecord
from layerstore_core.tree.access_lists import remove_access_lists
from layerstore_core.tree.copy_tasks import Answer, Defaults
from layerstore_core.tree.extents import copy_extent, data_extents, may_have_holes
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.tree.xattrs import list_xattrs, read_xattrs, set_xattr

#: From `linux/fs.h`: `_IOW(0x94, 9, int)`.
_FICLONE: Final = 0x40049409
#: Errors by which a file system says that it cannot share or copy content by itself.
_UNSUPPORTED: Final = {errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.ENOSYS, errno.EINVAL}
#: The flags by which files of a copy are made.
NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Below this size the two calls of a plain copy are faster than the file system's own way.
_SMALL: Final = 1 << 16
#: The permission bits without which the owner of a directory cannot open it.
_OWNER_ACCESS: Final = stat.S_IRUSR | stat.S_IXUSR


def copy_metadata(source: str | bytes, target: str | bytes) -> None:
    """Apply owner, mode, extended attributes and times of one file to another of the same type.

    Attributes that are the host's own are left alone: see `read_xattrs`.

    Args:
        source: a path, of which a symbolic link at the end is not followed, nor any below a store's root.
        target: likewise.

    Raises:
        BadRecord: they are not of the same type, or something on the way to one of them is no directory.
        OSError: something cannot be read or set.
    """
    handle = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    with (
        inside.parent(source) as (above, name),
        inside.parent(target) as (target_above, target_name),
        Descriptor(os.open, target_name, handle, dir_fd=target_above) as fd,
    ):
        status = os.stat(name, dir_fd=above, follow_symlinks=False)
        if stat.S_IFMT(os.fstat(fd).st_mode) != stat.S_IFMT(status.st_mode):
            raise BadRecord(os.fsdecode(target), f"it is not of the type of {os.fsdecode(source)} any more")
        # A path that means this file whatever happens to its name, and no link's target.
        handle_path = f"/proc/self/fd/{fd}"
        os.chown(handle_path, status.st_uid, status.st_gid)
        # What it was made in may have given it access lists.
        if not stat.S_ISLNK(status.st_mode):
            remove_access_lists(handle_path)
            os.chmod(handle_path, stat.S_IMODE(status.st_mode))
        for attribute, value in read_xattrs(f"/proc/self/fd/{above}/{name}").items():
            os.setxattr(handle_path, attribute, value)
        os.utime(handle_path, ns=(status.st_atime_ns, status.st_mtime_ns))


class Copier:
    """Copies directories, each by itself and in any order, once the one above is copied.

    Args:
        source: the tree to copy.
        target: where to.
        defaults: what a new file there has by itself.
        before_entry: called before each entry; what it raises ends the copying.
        skip_hard_links: leave the names of files that have several: only one copier of a tree can tell which are the same file.

    Attributes:
        defaults: as above.
        left_out: how often what could not be copied for want of rights.
        inaccessible: directories that have to be given their metadata when all is copied, since they let nobody in then.
        skipped_links: names that were left, in their directories, which have not been given their metadata.
    """

    def __init__(
        self,
        source: TreeWalk,
        target: TreeWalk,
        defaults: Defaults,
        *,
        before_entry: Callable[[], None] | None = None,
        skip_hard_links: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self.defaults = defaults
        self._masked, self._owner = defaults
        self._before_entry = before_entry
        self._skip_hard_links = skip_hard_links
        self._reflink = True
        self._kernel_copy = True
        self._seen = 0
        self.left_out: Counter[str] = Counter()
        self.inaccessible: list[bytes] = []
        self.skipped_links: dict[bytes, list[str]] = {}
        #: Where the first name of a file that has several was made.
        self._first_names: dict[tuple[int, int], bytes] = {}

    def copy(self, waiting: list[bytes], *, up_to: int | None = None) -> None:
        """Copy what is in directories that have been made, with all below, the last first, and their own metadata.

        Args:
            waiting: their paths; what is done is taken out, and what is left to be done is put in.
            up_to: stop when so many entries have been seen, and a directory is done; `None`: when all is done.

        Raises:
            OSError: something cannot be read or made; the error names it.
        """
        self._seen = 0
        while waiting and (up_to is None or self._seen < up_to):
            path = waiting.pop()
            status = self._enter(path)
            directories, names = self._copy_entries()
            waiting += [self._source.join(name) for name in directories]
            if names:
                self.skipped_links[path] = names
            else:
                self._close(path, status)
            self._seen += 1

    def apply_answer(self, answer: Answer) -> None:
        """Do what another copier has left to this one."""
        self.left_out.update(answer.left_out)
        self.inaccessible += answer.inaccessible
        for path, names in answer.skipped_links.items():
            status = self._enter(path)
            for name in names:
                try:
                    self._copy_name(name, os.stat(name, dir_fd=self._source.fd, follow_symlinks=False))
                except OSError as error:
                    self._add_context(error, name)
                    raise
            self._close(path, status)

    def finish(self) -> None:
        """Give directories their metadata that could not have it before all was copied.

        Raises:
            OSError: as `copy`.
        """
        # Those furthest down first: one that has its own lets nobody in.
        for path in sorted(self.inaccessible, reverse=True):
            status = self._enter(path)
            with Descriptor(os.dup, self._source.fd) as source, Descriptor(os.dup, self._target.fd) as target:
                if path:  # nor does it let anybody out
                    self._source.up()
                    self._target.up()
                self._apply_directory_metadata(path, source, target, status)

    def _enter(self, path: bytes) -> os.stat_result:
        """Go to a directory, in both trees; returns the source's status, from before it is read."""
        status = os.fstat(self._source.enter(path))
        self._target.enter(path)
        return status

    def _close(self, path: bytes, status: os.stat_result) -> None:
        """Give the present directory its metadata, now or when all is copied: nothing will be made in it any more."""
        if status.st_mode & _OWNER_ACCESS == _OWNER_ACCESS:
            self._apply_directory_metadata(path, self._source.fd, self._target.fd, status)
        else:
            self.inaccessible.append(path)

    def _apply_directory_metadata(self, path: bytes, source: int, target: int, status: os.stat_result) -> None:
        """Give an open directory its metadata."""
        owner = self._owner
        if not path:  # somebody else has made it, perhaps in a setgid directory
            root = os.fstat(target)
            owner = root.st_uid, root.st_gid
        try:
            self._apply_metadata(source, target, status, owner)
        except OSError as error:
            error.filename = os.fsdecode(os.path.join(self._source.root, path))
            error.add_note(f"while copying it to {os.fsdecode(os.path.join(self._target.root, path))}")
            raise

    def _add_context(self, error: OSError, name: str) -> None:
        """Have an error say what was being done with a name in the present directory."""
        error.filename = self._source.absolute(name)
        error.add_note(f"while copying it to {self._target.absolute(name)}")

    def _copy_entries(self) -> tuple[list[str], list[str]]:
        """Copy what is in the present directory; returns its directories, made, and the names that are left to another."""
        directories: list[str] = []
        left: list[str] = []
        before_entry = self._before_entry
        with os.scandir(self._source.fd) as entries:
            for entry in entries:
                self._seen += 1
                if before_entry is not None:
                    before_entry()
                name = entry.name
                try:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        os.mkdir(name, 0o700, dir_fd=self._target.fd)
                        directories.append(name)
                    elif status.st_nlink > 1 and self._skip_hard_links:
                        left.append(name)
                    else:
                        self._copy_name(name, status)
                except OSError as error:
                    self._add_context(error, name)
                    raise
        return directories, left

    def _copy_name(self, name: str, status: os.stat_result) -> None:
        if status.st_nlink == 1 or not self._link(name, status):
            self._copy_entry(name, status)

    def _copy_entry(self, name: str, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            self._copy_file(name, status)
        elif stat.S_ISLNK(status.st_mode):
            self._copy_symlink(name, status)
        else:
            self._copy_special(name, status)

    def _link(self, name: str, status: os.stat_result) -> bool:
        path = self._target.join(name)
        first = self._first_names.setdefault((status.st_dev, status.st_ino), path)
        if first == path:
            return False
        parent, _, base = first.rpartition(b"/")
        with TreeWalk(self._target.root_fd) as directory:
            os.link(base, name, src_dir_fd=directory.enter(parent), dst_dir_fd=self._target.fd, follow_symlinks=False)
        return True

    def _copy_file(self, name: str, status: os.stat_result) -> None:
        source = self._source.open_file(name)
        try:
            target = open_fd(name, NEW_FILE, status.st_mode & 0o777, dir_fd=self._target.fd)
            try:
                if status.st_size:
                    self._copy_content(source, target, status)
                self._apply_metadata(source, target, status, self._owner)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _copy_content(self, source: int, target: int, status: os.stat_result) -> None:
        if self._reflink:
            try:
                fcntl.ioctl(target, _FICLONE, source)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                # EINVAL is about this one file.
                self._reflink = error.errno == errno.EINVAL
            else:
                return
        size = status.st_size
        if may_have_holes(status):
            for offset, length in data_extents(source, size):
                self._copy_range(source, target, offset, length)
            os.ftruncate(target, size)
        else:
            self._copy_range(source, target, 0, size)

    def _copy_range(self, source: int, target: int, offset: int, length: int) -> None:
        while length and self._kernel_copy and length > _SMALL:
            try:
                count = os.copy_file_range(source, target, length, offset, offset)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._kernel_copy = False
                break
            if not count:
                break
            offset += count
            length -= count
        copy_extent(source, target, offset, length)

    def _apply_metadata(self, source: int, target: int, status: os.stat_result, owner: tuple[int, int]) -> None:
        """Give its metadata to what is open, and belongs to `owner`."""
        mode = stat.S_IMODE(status.st_mode)
        if (status.st_uid, status.st_gid) != owner:
            try:
                os.chown(target, status.st_uid, status.st_gid)
            except PermissionError:
                self.left_out["owners"] += 1
        if mode & self._masked or stat.S_ISDIR(status.st_mode):
            os.chmod(target, mode)
        for name in list_xattrs(source):
            self._set_xattr(target, name, os.getxattr(source, name))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _set_xattr(self, target: int | bytes, name: str, value: bytes) -> None:
        try:
            set_xattr(target, name, value, follow_symlinks=isinstance(target, int))
        except PermissionError:
            self.left_out[f"extended attribute {name}"] += 1

    def _copy_symlink(self, name: str, status: os.stat_result) -> None:
        fd = self._target.fd
        os.symlink(os.readlink(name, dir_fd=self._source.fd), name, dir_fd=fd)
        self._apply_metadata_by_name(name, status)

    def _copy_special(self, name: str, status: os.stat_result) -> None:
        fd = self._target.fd
        try:
            os.mknod(name, status.st_mode & 0o170777, status.st_rdev, dir_fd=fd)
        except PermissionError:
            self.left_out["devices"] += 1
            self._first_names.pop((status.st_dev, status.st_ino), None)
            return
        self._apply_metadata_by_name(name, status)

    def _apply_metadata_by_name(self, name: str, status: os.stat_result) -> None:
        """Give its metadata to what cannot be opened."""
        fd = self._target.fd
        if (status.st_uid, status.st_gid) != self._owner:
            try:
                os.chown(name, status.st_uid, status.st_gid, dir_fd=fd, follow_symlinks=False)
            except PermissionError:
                self.left_out["owners"] += 1
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & self._masked:
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=fd)
        source, target = self._source.handle(name), self._target.handle(name)
        for attribute in list_xattrs(source):
            self._set_xattr(target, attribute, os.getxattr(source, attribute, follow_symlinks=False))
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=fd, follow_symlinks=False)
