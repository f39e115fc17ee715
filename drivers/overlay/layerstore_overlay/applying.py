"""Unpacking straight into a layer's own directory, where marks stand for what is deleted below.

A layer whose tar leaves out the directories that its files are in gets them with the metadata that they
have below: made anew they would hide it. (Docker makes them root's, with mode 0755.) Layers of one image
may be applied at the same time, so what is below may come later: which directories those were is
noted beside the layer, and settled before it is first mounted.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from typing import Final

from layerstore_core.archive.root import Directory, Root
from layerstore_core.archive.whiteoutstyle import WhiteoutStyle
from layerstore_overlay.lowers import LowerLayers, OverlayXattrs, is_whiteout

#: Directories that `bring_up` makes; `settle_implied` gives them what they have below.
_IMPLIED_MODE: Final = 0o755


class OverlayWhiteouts(WhiteoutStyle):
    """Whiteouts as overlayfs has them.

    Args:
        below: the merged tree of the layers below.
        xattrs: how opaque directories are marked.

    Attributes:
        implied_paths: the directories that the tar left out.
    """

    def __init__(self, below: LowerLayers, xattrs: OverlayXattrs) -> None:
        self._below = below
        self._xattrs = xattrs
        self.implied_paths: list[bytes] = []

    def whiteout(self, directory: Directory, base: bytes) -> None:
        """Make a device 0:0."""
        os.mknod(base, stat.S_IFCHR, 0, dir_fd=directory.fd)

    def opaque(self, directory: Directory) -> None:
        """Set the attribute."""
        os.setxattr(directory.fd, self._xattrs.opaque, b"y")

    def is_whiteout(self, status: os.stat_result) -> bool:
        """Whether it is a device 0:0."""
        return is_whiteout(status)

    def bring_up(self, tree: Root, name: bytes) -> bool:
        """Copy a regular file or a symbolic link, as overlayfs does before it changes one."""
        if is_hidden(tree.path, name, self._xattrs):
            return False
        found = self._below.find(name)
        if found is None or not (stat.S_ISREG(found.status.st_mode) or stat.S_ISLNK(found.status.st_mode)):
            return False
        parent, _, base = name.rpartition(b"/")
        directory = tree.enter(parent, create_mode=_IMPLIED_MODE)
        target = b"/proc/self/fd/%d/%b" % (directory.fd, base)
        if stat.S_ISREG(found.status.st_mode):
            shutil.copyfile(found.path, target, follow_symlinks=False)
        else:
            os.symlink(os.readlink(found.path), target)
        _copy_metadata(found.path, found.status, target, self._xattrs)
        return True

    def implied(self, paths: Sequence[bytes]) -> None:
        """Take note."""
        self.implied_paths.extend(paths)


def is_hidden(upper: bytes, path: bytes, xattrs: OverlayXattrs) -> bool:
    """Whether a layer's own directory hides what is below at `path`, at one of the directories above it."""
    parts = path.split(b"/")
    for depth in range(len(parts)):
        here = os.path.join(upper, *parts[:depth])
        try:
            if not stat.S_ISDIR(os.lstat(here).st_mode) or xattrs.is_opaque(here):
                return True
        except FileNotFoundError:
            return False
    return False


def settle_implied(upper: bytes, paths: Sequence[bytes], below: LowerLayers, xattrs: OverlayXattrs) -> None:
    """Give directories that a layer's tar left out the metadata that they have below.

    Args:
        upper: the layer's own directory.
        paths: the directories, relative to it.
        below: the merged tree of the layers below, complete.
        xattrs: how opaque directories are marked.
    """
    for path in paths:
        target = os.path.join(upper, path)
        if is_hidden(upper, path, xattrs) or not _is_merged_directory(target, xattrs):
            continue
        found = below.find(path)
        if found is not None and found.stack:
            _copy_metadata(found.path, found.status, target, xattrs)


def _is_merged_directory(path: bytes, xattrs: OverlayXattrs) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode) and not xattrs.is_opaque(path)
    except FileNotFoundError:
        return False


def _copy_metadata(source: bytes, status: os.stat_result, target: bytes, xattrs: OverlayXattrs) -> None:
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if not xattrs.is_own(os.fsencode(name)):
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
