"""Trees whose files are hard links to the files of another tree."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from layerstore_core.tree.copy import Copier, Defaults
from layerstore_core.tree.copy_tree import learn_defaults, warn_of_left_out
from layerstore_core.tree.walk import TreeWalk


def link_tree(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Make the empty directory `target` a tree like `source`, in which regular files are hard links to those there.

    Directories, symbolic links, devices, fifos and sockets are made again, with all their metadata, as by `copy_tree`.
    Both trees must be on one file system. Who changes a file of one tree in place changes that of the other: a driver
    whose children begin like this declares `Capabilities.shares_inodes`, or unpacks with `break_links=True`, and its
    writable layers begin as copies.

    A file that has as many names as the file system allows (EMLINK) is copied, with all the names that it has in
    `source`.

    Raises:
        OSError: something cannot be read, linked (EXDEV: two file systems; EPERM: fs.protected_hardlinks, or a file
            system without hard links) or made. The target is then incomplete, and the caller has to remove it.
    """
    with TreeWalk(source) as here, TreeWalk(target) as there:
        linker = _Linker(here, there, learn_defaults(there.fd))
        waiting = [b""]
        while waiting:
            waiting += linker.copy(waiting.pop())
        linker.finish()
    warn_of_left_out(linker, here, there)


class _Linker(Copier):
    """Copier that links regular files."""

    def __init__(self, source: TreeWalk, target: TreeWalk, defaults: Defaults) -> None:
        super().__init__(source, target, defaults)
        #: Device and inode of the files that could not get another name.
        self._full: set[tuple[int, int]] = set()

    def copy_names(self, path: bytes, names: Iterable[str | bytes]) -> list[bytes]:
        source = self._source
        status = self._enter(path)
        directories = []
        for name in names:
            try:
                found = os.stat(name, dir_fd=source.fd, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and self._link_to_source(name, found):
                    continue
            except OSError as error:
                self._add_context(error, name)
                raise
            if self._copy_name(name):
                directories.append(source.join(name))
        self._close(path, status)
        return directories

    def _link_to_source(self, name: str | bytes, status: os.stat_result) -> bool:
        """Link a name to the same file as in the source; return whether the file could get another name."""
        try:
            os.link(name, name, src_dir_fd=self._source.fd, dst_dir_fd=self._target.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            self._full.add((status.st_dev, status.st_ino))
            return False
        return True

    def finish(self) -> None:
        waiting = [b""] if self._full else []
        while waiting:
            waiting += self._join_copies(waiting.pop())
        super().finish()

    def _join_copies(self, path: bytes) -> list[bytes]:
        """Give the names in a directory that are still links to a file that was copied to the copy.

        Returns:
            The paths of the directories in it.
        """
        fd = self._target.enter(path)
        before = os.fstat(fd)
        directories, full = [], []
        for name in os.listdir(fd):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                directories.append(self._target.join(name))
            elif (status.st_dev, status.st_ino) in self._full:
                full.append((name, status))
        if full:
            os.chmod(fd, 0o700)
            for name, status in full:
                os.unlink(name, dir_fd=fd)
                self._link(name, status)
            os.chmod(fd, stat.S_IMODE(before.st_mode))
            os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
        return directories
