"""Exact copies of directories: content, holes, hard links, owners, modes, attributes, devices and times."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from layerstore_core.base import inside
from layerstore_core.base.descriptors import Descriptor, open_fd
from layerstore_core.errors import BadRecord
from layerstore_core.tree.access_lists import remove_access_lists
from layerstore_core.tree.extents import copy_extent, data_extents, may_have_holes
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.tree.xattrs import list_xattrs, read_xattrs, set_xattr

#: From `linux/fs.h`: `_IOW(0x94, 9, int)`.
_FICLONE: Final = 0x40049409
#: Errors that mean that a file system cannot share or copy content.
_UNSUPPORTED: Final = {errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.ENOSYS, errno.EINVAL}
#: The flags to open new files of a copy with.
NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Up to this size in bytes the two calls of a plain copy are faster than copy_file_range(2).
_SMALL: Final = 1 << 16
#: The permission bits without which the owner of a directory cannot open it.
_OWNER_ACCESS: Final = stat.S_IRUSR | stat.S_IXUSR


def copy_metadata(source: str | bytes, target: str | bytes) -> None:
    """Apply owner, mode, extended attributes and times of one file to another of the same type.

    Attributes that belong to the host are left alone: see `read_xattrs`.

    Args:
        source: a path. A symbolic link at its end is not followed, nor one in it below a store's root.
        target: likewise.

    Raises:
        BadRecord: the files are not of the same type, or something on the way to one of them is no directory.
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
            raise BadRecord(os.fsdecode(target), f"its type is no longer that of {os.fsdecode(source)}")
        # A path that always means this file, even if its name changes, and never the target of a link.
        handle_path = f"/proc/self/fd/{fd}"
        os.chown(handle_path, status.st_uid, status.st_gid)
        # The directory that it was made in may have given it access lists.
        if not stat.S_ISLNK(status.st_mode):
            remove_access_lists(handle_path)
            os.chmod(handle_path, stat.S_IMODE(status.st_mode))
        for attribute, value in read_xattrs(f"/proc/self/fd/{above}/{name}").items():
            os.setxattr(handle_path, attribute, value)
        os.utime(handle_path, ns=(status.st_atime_ns, status.st_mtime_ns))


class Defaults(NamedTuple):
    """Mode and owner that a new file in the target gets, as decided by the umask and by mount options.

    Attributes:
        masked: the mode bits that have to be set by another call.
        owner: user and group.
    """

    masked: int
    owner: tuple[int, int]


class Copier:
    """Copier of directories: one at a time, in any order, each after its parent.

    Args:
        source: the tree to copy.
        target: the tree to copy to.
        defaults: the mode and owner that new files there get.

    Attributes:
        left_out: the number of times that something could not be copied for lack of rights, by what it was.
        inaccessible: directories whose metadata is applied when everything is copied, because their mode denies access.
    """

    def __init__(self, source: TreeWalk, target: TreeWalk, defaults: Defaults) -> None:
        self._source = source
        self._target = target
        self._masked, self._owner = defaults
        self._reflink = True
        self._kernel_copy = True
        self.left_out: Counter[str] = Counter()
        self.inaccessible: list[bytes] = []
        #: The path of the first name of each hard-linked file in the target.
        self._first_names: dict[tuple[int, int], bytes] = {}

    def copy(self, path: bytes) -> list[bytes]:
        """Copy the content of a directory that exists in the target, and apply its metadata.

        Returns:
            The paths of the directories in it, which are made, and empty.

        Raises:
            OSError: something cannot be read or made; the error names it.
        """
        with os.scandir(self._source.enter(path)) as entries:
            return self.copy_names(path, (entry.name for entry in entries))

    def copy_names(self, path: bytes, names: Iterable[str | bytes]) -> list[bytes]:
        """Do what `copy` does, for these names in a directory. The target has all the others."""
        status = self._enter(path)
        directories = [self._source.join(name) for name in names if self._copy_name(name)]
        self._close(path, status)
        return directories

    def finish(self) -> None:
        """Apply the metadata of directories that could not have it before everything was copied.

        Raises:
            OSError: as `copy`.
        """
        # The deepest first: a directory that has its own mode cannot be entered any more.
        for path in sorted(self.inaccessible, reverse=True):
            status = self._enter(path)
            with Descriptor(os.dup, self._source.fd) as source, Descriptor(os.dup, self._target.fd) as target:
                if path:  # nor can it be left through `..`
                    self._source.up()
                    self._target.up()
                self._apply_directory_metadata(path, source, target, status)

    def _enter(self, path: bytes) -> os.stat_result:
        """Go to a directory in both trees; return the status of the source's, taken before it is read."""
        status = os.fstat(self._source.enter(path))
        self._target.enter(path)
        return status

    def _close(self, path: bytes, status: os.stat_result) -> None:
        """Apply the current directory's metadata, now or when everything is copied. Nothing more is made in it."""
        if status.st_mode & _OWNER_ACCESS == _OWNER_ACCESS:
            self._apply_directory_metadata(path, self._source.fd, self._target.fd, status)
        else:
            self.inaccessible.append(path)

    def _apply_directory_metadata(self, path: bytes, source: int, target: int, status: os.stat_result) -> None:
        """Apply metadata to an open directory."""
        owner = self._owner
        if not path:  # the caller has made it, perhaps in a setgid directory
            root = os.fstat(target)
            owner = root.st_uid, root.st_gid
        try:
            self._apply_metadata(source, target, status, owner)
        except OSError as error:
            error.filename = os.fsdecode(os.path.join(self._source.root, path))
            error.add_note(f"while copying it to {os.fsdecode(os.path.join(self._target.root, path))}")
            raise

    def _add_context(self, error: OSError, name: str | bytes) -> None:
        """Add the paths of a name in the current directory to an error."""
        error.filename = self._source.absolute(name)
        error.add_note(f"while copying it to {self._target.absolute(name)}")

    def _copy_name(self, name: str | bytes) -> bool:
        """Copy what has this name in the current directory; return whether it is a directory, which is made empty."""
        try:
            status = os.stat(name, dir_fd=self._source.fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                os.mkdir(name, 0o700, dir_fd=self._target.fd)
                return True
            if status.st_nlink == 1 or not self._link(name, status):
                self._copy_entry(name, status)
        except OSError as error:
            self._add_context(error, name)
            raise
        return False

    def _copy_entry(self, name: str | bytes, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            self._copy_file(name, status)
        elif stat.S_ISLNK(status.st_mode):
            self._copy_symlink(name, status)
        else:
            self._copy_special(name, status)

    def _link(self, name: str | bytes, status: os.stat_result) -> bool:
        """Link a name to the first name of its file; return whether there was one."""
        path = self._target.join(name)
        first = self._first_names.setdefault((status.st_dev, status.st_ino), path)
        if first == path:
            return False
        parent, _, base = first.rpartition(b"/")
        with TreeWalk(self._target.root_fd) as directory:
            os.link(base, name, src_dir_fd=directory.enter(parent), dst_dir_fd=self._target.fd, follow_symlinks=False)
        return True

    def _copy_file(self, name: str | bytes, status: os.stat_result) -> None:
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
        """Share the content of a file with its copy, or copy the parts that hold data."""
        if self._reflink:
            try:
                fcntl.ioctl(target, _FICLONE, source)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                # EINVAL concerns this file alone.
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
        """Copy a range of a file: large ones in the kernel, if the file system supports it."""
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
        """Apply metadata to an open file that belongs to `owner`."""
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
        """Set an extended attribute; count it as left out if this process may not set it."""
        try:
            set_xattr(target, name, value, follow_symlinks=isinstance(target, int))
        except PermissionError:
            self.left_out[f"extended attribute {name}"] += 1

    def _copy_symlink(self, name: str | bytes, status: os.stat_result) -> None:
        fd = self._target.fd
        os.symlink(os.readlink(os.fsencode(name), dir_fd=self._source.fd), name, dir_fd=fd)
        self._apply_metadata_by_name(name, status)

    def _copy_special(self, name: str | bytes, status: os.stat_result) -> None:
        fd = self._target.fd
        try:
            os.mknod(name, status.st_mode & 0o170777, status.st_rdev, dir_fd=fd)
        except PermissionError:
            self.left_out["devices"] += 1
            self._first_names.pop((status.st_dev, status.st_ino), None)
            return
        self._apply_metadata_by_name(name, status)

    def _apply_metadata_by_name(self, name: str | bytes, status: os.stat_result) -> None:
        """Apply metadata to a file that cannot be opened."""
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
