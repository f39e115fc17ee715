"""Trees whose files are hard links to the files of another tree."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from layerstore_core.tree.copy import Copier
from layerstore_core.tree.copy_tree import learn_defaults, warn_of_left_out
from layerstore_core.tree.walk import TreeWalk


def link_tree(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Make the empty directory `target` a tree like `source`, in which regular files are hard links to those there.

    Directories, symbolic links, devices, fifos and sockets are made again, with all their metadata, as by `copy_tree`.
    Both trees must be on one file system. Who changes a file of one tree in place changes that of the other: a driver
    whose children begin like this declares `Capabilities.shares_inodes`, or unpacks with `break_links=True`, and its
    writable layers begin as copies.

    A file that has as many names as the file system allows (EMLINK) is copied. If it has several names in `source`,
    the copy has those of them that could not be linked.

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

    def copy_names(self, path: bytes, names: Iterable[str | bytes]) -> list[bytes]:
        source, target = self._source, self._target
        status = self._enter(path)
        directories = []
        for name in names:
            try:
                found = os.stat(name, dir_fd=source.fd, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    os.link(name, name, src_dir_fd=source.fd, dst_dir_fd=target.fd, follow_symlinks=False)
                    continue
            except OSError as error:
                if error.errno != errno.EMLINK:
                    self._add_context(error, name)
                    raise
            if self._copy_name(name):
                directories.append(source.join(name))
        self._close(path, status)
        return directories
