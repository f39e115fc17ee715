"""Private copies of files whose inodes a layer shares with its parent, made before their metadata changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final

from layerstore_core.base.nameset import seen_names
from layerstore_core.tree.access_lists import remove_access_lists
from layerstore_core.tree.extents import copy_extents
from layerstore_core.tree.root import Directory, Root
from layerstore_core.tree.xattrs import read_xattrs, set_xattr

_SOURCE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LinkBreaker:
    """Breaker of links between trees: gives files of one tree inodes that no other tree shares.

    Args:
        tree: the tree. After the first call of `separate`, only the layer may add names to what is in it by then.
    """

    def __init__(self, tree: Root) -> None:
        self._tree = tree
        #: Inodes that belong to this tree alone.
        self._private: set[int] = set()
        #: The paths in this tree of each inode that has several here; `None` until they are searched for.
        self._names: dict[int, list[bytes]] | None = None

    def separate(self, directory: Directory, base: bytes) -> os.stat_result:
        """Give a file an inode of its own, under all names that it has in this tree. No file may be pending.

        Args:
            directory: the directory that has the file; pinned.
            base: its name there. It is no directory.

        Returns:
            The status of the file that has the name now. A symbolic link is left as it is.

        Raises:
            OSError: the file cannot be copied, or a name cannot be replaced.
        """
        status = os.stat(base, dir_fd=directory.fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode) or status.st_nlink == 1 or status.st_ino in self._private:
            return status
        if self._names is None:
            self._names = self._find_names()
        aside = b".wh..wh.layerstore-" + os.urandom(8).hex().encode()
        _copy(directory.fd, base, status, aside)
        copy = os.stat(aside, dir_fd=directory.fd, follow_symlinks=False)
        self._private.add(copy.st_ino)
        for path in self._names.pop(status.st_ino, ()):
            above, _, name = path.rpartition(b"/")
            place = self._tree.enter(above)
            if (place.path, name) != (directory.path, base) and _is(place.fd, name, status):
                os.unlink(name, dir_fd=place.fd)
                os.link(aside, name, src_dir_fd=directory.fd, dst_dir_fd=place.fd, follow_symlinks=False)
        os.rename(aside, base, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
        return os.stat(base, dir_fd=directory.fd, follow_symlinks=False)

    def _find_names(self) -> dict[int, list[bytes]]:
        # Every file may have several names, most of them in other trees. To save memory these files are not kept.
        seen = seen_names()
        names: dict[int, list[bytes]] = {
            inode: [] for _, inode in self._files() if not seen.add(inode.to_bytes(8, "little"))
        }
        for path, inode in self._files() if names else ():
            if inode in names:
                names[inode].append(path)
        return names

    def _files(self) -> Iterator[tuple[bytes, int]]:
        """Yield the paths and inodes of files with several names, in this tree or others."""
        pending = [b""]
        while pending:
            here = self._tree.enter(pending.pop())
            with self._tree.pinned(here):
                for name in here.names():
                    status = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(here.join(name))
                    elif status.st_nlink > 1:
                        yield here.join(name), status.st_ino


def _is(directory: int, name: bytes, status: os.stat_result) -> bool:
    """Return whether a name is that of the file with this status."""
    try:
        return os.path.samestat(os.stat(name, dir_fd=directory, follow_symlinks=False), status)
    except FileNotFoundError:
        return False


def _copy(directory: int, base: bytes, status: os.stat_result, target: bytes) -> None:
    """Copy a file with all its metadata. It may be of any type but a directory or a symbolic link."""
    source_path, target_path = (b"/proc/self/fd/%d/%b" % (directory, name) for name in (base, target))
    if stat.S_ISREG(status.st_mode):
        source = os.open(base, _SOURCE, dir_fd=directory)
        try:
            copy = os.open(target, _COPY, 0o600, dir_fd=directory)
            try:
                copy_extents(source, copy, status)
            finally:
                os.close(copy)
        finally:
            os.close(source)
    else:
        os.mknod(target, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=directory)
    if os.geteuid() == 0:
        os.chown(target_path, status.st_uid, status.st_gid, follow_symlinks=False)
    remove_access_lists(target_path)  # the directory may have given it some
    os.chmod(target_path, stat.S_IMODE(status.st_mode))
    for name, value in read_xattrs(source_path).items():
        set_xattr(target_path, name, value, follow_symlinks=False)
    os.utime(target_path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
