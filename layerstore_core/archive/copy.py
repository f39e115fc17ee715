"""Copying a tree exactly: content, holes, names of one file, owners, modes, attributes, devices and times."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import Counter
from typing import Final

from layerstore_core.archive.descent import Descent
from layerstore_core.archive.extents import data_extents, may_have_holes
from layerstore_core.archive.xattrs import set_xattr
from layerstore_core.log import logger

#: From `linux/fs.h`: `_IOW(0x94, 9, int)`.
_FICLONE: Final = 0x40049409
#: Errors by which a file system says that it cannot share or copy content by itself.
_CANNOT: Final = {errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.ENOSYS, errno.EINVAL}
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1 << 20
#: Below this size the two calls of a plain copy are faster than the file system's own way.
_SMALL: Final = 1 << 16
#: What a directory may have inherited, and would hand down to the files made in it.
_ACLS: Final = ("system.posix_acl_access", "system.posix_acl_default")


def copy_tree(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy everything in the directory `source`, and its own metadata, into the empty directory `target`.

    Content is shared (reflinked) where the file system can, else copied by the kernel. Without the rights of
    root, owners, devices and privileged attributes are left out, and one warning says so.

    Raises:
        OSError: something cannot be read or made; the target is then incomplete, and the caller's to remove.
    """
    with Descent(source) as here, Descent(target) as there:
        _Copier(here, there).run()


class _Copier:
    def __init__(self, source: Descent, target: Descent) -> None:
        self._source = source
        self._target = target
        self._reflink = True
        self._kernel_copy = True
        self._left_out: Counter[str] = Counter()
        #: Where the first name of a file that has several was made.
        self._first_names: dict[tuple[int, int], bytes] = {}

    def run(self) -> None:
        self._learn_defaults()
        root = os.fstat(self._source.fd)
        statuses = [root]
        pending = [self._copy_entries()]
        while True:
            if pending[-1]:
                name, status = pending[-1].pop()
                os.mkdir(name, 0o700, dir_fd=self._target.fd)
                self._source.down(name)
                self._target.down(name)
                statuses.append(status)
                pending.append(self._copy_entries())
            else:
                pending.pop()
                self._dress(self._source.fd, self._target.fd, statuses.pop())
                if not pending:
                    break
                self._source.up()
                self._target.up()
        for what, count in self._left_out.items():
            logger.warning(
                "{}: left out of the copy of {}, for want of rights: {} ({} times)",
                os.fsdecode(self._target.root),
                os.fsdecode(self._source.root),
                what,
                count,
            )

    def _learn_defaults(self) -> None:
        """Find out which mode and owner a new file gets by itself: the umask's and the mount's doing."""
        fd = self._target.fd
        for acl in _ACLS:
            try:
                os.removexattr(fd, acl)
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                    raise
        os.fchmod(fd, 0o700)
        name = b".layerstore-copy"
        probe = os.open(name, _NEW_FILE, 0o777, dir_fd=fd)
        try:
            status = os.fstat(probe)
        finally:
            os.close(probe)
            os.unlink(name, dir_fd=fd)
        self._masked = 0o7000 | (0o777 & ~status.st_mode)
        self._owner = (status.st_uid, status.st_gid)

    def _copy_entries(self) -> list[tuple[str, os.stat_result]]:
        """Copy what is in the present directory; returns its directories, which are still to be made."""
        directories = []
        with os.scandir(self._source.fd) as entries:
            for entry in entries:
                name = entry.name
                try:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        directories.append((name, status))
                    elif status.st_nlink == 1 or not self._link(name, status):
                        self._copy_entry(name, status)
                except OSError as error:
                    error.filename = self._source.absolute(name)
                    error.add_note(f"while copying it to {self._target.absolute(name)}")
                    raise
        return directories

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
        with Descent(self._target.root) as directory:
            os.link(base, name, src_dir_fd=directory.enter(parent), dst_dir_fd=self._target.fd, follow_symlinks=False)
        return True

    def _copy_file(self, name: str, status: os.stat_result) -> None:
        source = self._source.open_file(name)
        try:
            target = os.open(name, _NEW_FILE, status.st_mode & 0o777, dir_fd=self._target.fd)
            try:
                if status.st_size:
                    self._copy_content(source, target, status)
                self._dress(source, target, status)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _copy_content(self, source: int, target: int, status: os.stat_result) -> None:
        if self._reflink:
            try:
                fcntl.ioctl(target, _FICLONE, source)
            except OSError as error:
                if error.errno not in _CANNOT:
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
                if error.errno not in _CANNOT:
                    raise
                self._kernel_copy = False
                break
            if not count:
                break
            offset += count
            length -= count
        while length:
            data = os.pread(source, min(length, _CHUNK), offset)
            if not data:
                break
            written = os.pwrite(target, data, offset)
            offset += written
            length -= written

    def _dress(self, source: int, target: int, status: os.stat_result) -> None:
        mode = stat.S_IMODE(status.st_mode)
        if (status.st_uid, status.st_gid) != self._owner:
            try:
                os.chown(target, status.st_uid, status.st_gid)
            except PermissionError:
                self._left_out["owners"] += 1
        if mode & self._masked or stat.S_ISDIR(status.st_mode):
            os.chmod(target, mode)
        for name in _list_xattrs(source):
            self._set_xattr(target, name, os.getxattr(source, name))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _set_xattr(self, target: int | bytes, name: str, value: bytes) -> None:
        try:
            set_xattr(target, name, value, follow_symlinks=isinstance(target, int))
        except PermissionError:
            self._left_out[f"extended attribute {name}"] += 1

    def _copy_symlink(self, name: str, status: os.stat_result) -> None:
        fd = self._target.fd
        os.symlink(os.readlink(name, dir_fd=self._source.fd), name, dir_fd=fd)
        self._dress_name(name, status)

    def _copy_special(self, name: str, status: os.stat_result) -> None:
        fd = self._target.fd
        try:
            os.mknod(name, status.st_mode & 0o170777, status.st_rdev, dir_fd=fd)
        except PermissionError:
            self._left_out["devices"] += 1
            self._first_names.pop((status.st_dev, status.st_ino), None)
            return
        self._dress_name(name, status)

    def _dress_name(self, name: str, status: os.stat_result) -> None:
        """Give its metadata to what cannot be opened."""
        fd = self._target.fd
        if (status.st_uid, status.st_gid) != self._owner:
            try:
                os.chown(name, status.st_uid, status.st_gid, dir_fd=fd, follow_symlinks=False)
            except PermissionError:
                self._left_out["owners"] += 1
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & self._masked:
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=fd)
        source, target = self._source.handle(name), self._target.handle(name)
        for attribute in _list_xattrs(source):
            self._set_xattr(target, attribute, os.getxattr(source, attribute, follow_symlinks=False))
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=fd, follow_symlinks=False)


def _list_xattrs(target: int | bytes) -> list[str]:
    try:
        return os.listxattr(target, follow_symlinks=isinstance(target, int))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise
