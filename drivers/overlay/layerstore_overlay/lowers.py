"""Reading the lower layers of a layer as overlayfs merges them, without mounting them.

The rules are those of Linux, `Documentation/filesystems/overlayfs.rst`, "Merging directories" and "Whiteouts and opaque
directories". Directories are never reached through symbolic links: a stack has real directories only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Final, NamedTuple

#: Errors that mean: the attribute is missing, or the file system has no extended attributes.
_NO_ATTRIBUTE: Final = (errno.ENODATA, errno.ENOTSUP, errno.EPERM)

Stack = tuple[bytes, ...]
"""The real directories that make up one merged directory, the uppermost first."""


class LowerFile(NamedTuple):
    """A file of the merged tree, of any type.

    Attributes:
        path: the path of the real file that overlayfs would show.
        status: its status.
        stack: for a directory: itself, and the directories that are merged with it. Empty if that was not asked for.
    """

    path: bytes
    status: os.stat_result
    stack: Stack = ()


class OverlayXattrs(NamedTuple):
    """The extended attributes of one kind of overlay.

    Attributes:
        prefix: `trusted.overlay.` or `user.overlay.`.
    """

    prefix: str

    @property
    def opaque(self) -> str:
        """The attribute of an opaque directory, which hides all lower ones. Its value is `y`."""
        return self.prefix + "opaque"

    def is_own(self, name: bytes) -> bool:
        """Return whether an attribute belongs to overlayfs, which does not show it in the merged tree."""
        return name.startswith(os.fsencode(self.prefix))

    def is_opaque(self, path: bytes | int) -> bool:
        """Return whether the directory is opaque: it hides all lower ones."""
        return self._get(path, "opaque") == b"y"

    def is_moved(self, path: bytes) -> bool:
        """Return whether overlayfs keeps this file's name or content in another place (redirect_dir, metacopy)."""
        return self._get(path, "redirect") is not None or self._get(path, "metacopy") is not None

    def _get(self, path: bytes | int, name: str) -> bytes | None:
        try:
            return os.getxattr(path, self.prefix + name, follow_symlinks=isinstance(path, int))
        except OSError as error:
            if error.errno in _NO_ATTRIBUTE:
                return None
            raise


TRUSTED: Final = OverlayXattrs("trusted.overlay.")
USER: Final = OverlayXattrs("user.overlay.")


class LowerLayers:
    """The merged tree of some layers.

    Args:
        roots: returns their `diff` directories, the uppermost first. It is called at the first look-up.
        xattrs: how opaque directories are marked.
    """

    def __init__(self, roots: Callable[[], Iterable[str]], xattrs: OverlayXattrs) -> None:
        self._roots = roots
        self._xattrs = xattrs
        self._directories: dict[bytes, Stack] = {}
        self._read_roots: list[bytes] = []
        self._unread_roots: Iterator[str] | None = None

    @cached_property
    def root(self) -> Stack:
        """The root directories of the layers, down to the first opaque one."""
        return tuple(self._used_roots())

    def _used_roots(self) -> Iterator[bytes]:
        """Yield the roots of the layers one by one. Each is asked for only when it is needed, and only once."""
        index = 0
        while index < len(self._read_roots) or self._read_another_root():
            yield self._read_roots[index]
            index += 1

    def _read_another_root(self) -> bool:
        if self._unread_roots is None:
            self._unread_roots = iter(self._roots())
        elif self._read_roots and self._xattrs.is_opaque(self._read_roots[-1]):
            return False
        root = next(self._unread_roots, None)
        if root is None:
            return False
        self._read_roots.append(os.fsencode(root))
        return True

    def first(self, path: bytes) -> LowerFile | None:
        """Return what the merged tree has at `path`, like `find`, but without the stack of a directory.

        Layers below the one that has the file are not read. So the cost does not grow with the number of layers.
        """
        parts = path.split(b"/")
        for root in self._used_roots():
            here, passed = root, []
            for depth, part in enumerate(parts, 1):
                here = os.path.join(here, part)
                try:
                    status = os.lstat(here)
                except FileNotFoundError:
                    break
                if depth == len(parts):
                    return None if is_whiteout(status) else LowerFile(here, status)
                if not stat.S_ISDIR(status.st_mode):
                    return None
                passed.append(here)
            if any(map(self._xattrs.is_opaque, passed)):
                return None
        return None

    def look_up(self, stack: Stack, name: bytes) -> LowerFile | None:
        """Return what a merged directory has at a name."""
        directories: list[bytes] = []
        first: os.stat_result | None = None
        for directory in stack:
            path = os.path.join(directory, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(status.st_mode):
                if first is None and not is_whiteout(status):
                    return LowerFile(path, status)
                break
            first = first or status
            directories.append(path)
            if self._xattrs.is_opaque(path):
                break
        return LowerFile(directories[0], first, tuple(directories)) if first else None

    def find(self, path: bytes) -> LowerFile | None:
        """Return what the merged tree has at the relative path `path`. No symbolic link on the way is followed."""
        parent, _, base = path.rpartition(b"/")
        return self.look_up(self.directory(parent), base)

    def directory(self, path: bytes) -> Stack:
        """Return the merged directory at the relative path `path`; an empty stack if there is none."""
        if not path:
            return self.root
        known = self._directories.get(path)
        if known is None:
            found = self.find(path)
            known = self._directories[path] = found.stack if found else ()
        return known

    def names(self, stack: Stack) -> set[bytes]:
        """Return the names in a merged directory."""
        names: set[bytes] = set()
        hidden: set[bytes] = set()
        for directory in stack:
            whiteouts = []
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name in hidden:
                        continue
                    # Only a device can be a whiteout, so most entries need no stat(2).
                    if _may_be_device(entry) and is_whiteout(entry.stat(follow_symlinks=False)):
                        whiteouts.append(entry.name)
                    else:
                        names.add(entry.name)
            hidden.update(whiteouts)
            hidden.update(names)
        return names


def is_whiteout(status: os.stat_result) -> bool:
    """Return whether a file is a whiteout, overlayfs's mark of a deleted name: a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _may_be_device(entry: os.DirEntry[bytes]) -> bool:
    return not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False) or entry.is_symlink())
