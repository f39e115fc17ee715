"""Looking at the layers below one, as overlayfs merges them, without mounting them.

Rules: Linux, `Documentation/filesystems/overlayfs.rst`, "Merging directories" and "Whiteouts and opaque
directories". Directories are never reached through symbolic links: a stack holds real ones only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

#: What the kernel answers where an attribute is not there, or its file system has none.
_NO_ATTRIBUTE: Final = (errno.ENODATA, errno.ENOTSUP, errno.EPERM)

Stack = tuple[bytes, ...]
"""The real directories that make up one merged directory, the nearest first."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something in the merged tree.

    Attributes:
        path: where the file system object is that overlayfs would show.
        status: its status.
        stack: for a directory, all that is merged with it, itself first, if that was asked for; otherwise empty.
    """

    path: bytes
    status: os.stat_result
    stack: Stack = ()


@dataclass(frozen=True, slots=True)
class OverlayXattrs:
    """The extended attributes of one flavour of overlay: `trusted.overlay.` or `user.overlay.`."""

    prefix: str

    @property
    def opaque(self) -> str:
        """`y` on a directory that hides all below it."""
        return self.prefix + "opaque"

    def is_own(self, name: bytes) -> bool:
        """Whether an attribute belongs to overlayfs, and is not shown in the merged tree."""
        return name.startswith(os.fsencode(self.prefix))

    def is_opaque(self, path: bytes | int) -> bool:
        """Whether the directory hides all below it."""
        return self._get(path, "opaque") == b"y"

    def is_moved(self, path: bytes) -> bool:
        """Whether overlayfs keeps data or name of this object in another place: redirect_dir and metacopy."""
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
        roots: gives their `diff` directories, the nearest first; asked when something is first looked up.
        xattrs: how opaque directories are marked.
    """

    def __init__(self, roots: Callable[[], Iterable[str]], xattrs: OverlayXattrs) -> None:
        self._roots = roots
        self._xattrs = xattrs
        self._directories: dict[bytes, Stack] = {}
        self._seen: list[bytes] = []
        self._unseen: Iterator[str] | None = None

    @cached_property
    def root(self) -> Stack:
        """The root: those of all layers, down to one that hides what is below it."""
        return tuple(self._down())

    def _down(self) -> Iterator[bytes]:
        """The roots of the layers, one by one: none is asked for before its turn, and none twice."""
        index = 0
        while index < len(self._seen) or self._see_another():
            yield self._seen[index]
            index += 1

    def _see_another(self) -> bool:
        if self._unseen is None:
            self._unseen = iter(self._roots())
        elif self._seen and self._xattrs.is_opaque(self._seen[-1]):
            return False
        root = next(self._unseen, None)
        if root is None:
            return False
        self._seen.append(os.fsencode(root))
        return True

    def first(self, path: bytes) -> Found | None:
        """As `find`, but without the stack of a directory.

        No layer below the one that it is in is looked at: so it costs the same however deep the chain is.
        """
        parts = path.split(b"/")
        for root in self._down():
            here, passed = root, []
            for depth, part in enumerate(parts, 1):
                here = os.path.join(here, part)
                try:
                    status = os.lstat(here)
                except FileNotFoundError:
                    break
                if depth == len(parts):
                    return None if is_whiteout(status) else Found(here, status)
                if not stat.S_ISDIR(status.st_mode):
                    return None
                passed.append(here)
            if any(map(self._xattrs.is_opaque, passed)):
                return None
        return None

    def look_up(self, stack: Stack, name: bytes) -> Found | None:
        """What a merged directory has under a name."""
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
                    return Found(path, status)
                break
            first = first or status
            directories.append(path)
            if self._xattrs.is_opaque(path):
                break
        return Found(directories[0], first, tuple(directories)) if first else None

    def find(self, path: bytes) -> Found | None:
        """What the merged tree has at `path`, relative; no link on the way is followed."""
        parent, _, base = path.rpartition(b"/")
        return self.look_up(self.directory(parent), base)

    def directory(self, path: bytes) -> Stack:
        """The directory at `path`, relative; an empty stack where there is none."""
        if not path:
            return self.root
        known = self._directories.get(path)
        if known is None:
            found = self.find(path)
            known = self._directories[path] = found.stack if found else ()
        return known

    def names(self, stack: Stack) -> set[bytes]:
        """The names in a merged directory."""
        names: set[bytes] = set()
        hidden: set[bytes] = set()
        for directory in stack:
            whiteouts = []
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name in hidden:
                        continue
                    # Only a device can be a whiteout: most entries need no look at their status.
                    if _may_be_device(entry) and is_whiteout(entry.stat(follow_symlinks=False)):
                        whiteouts.append(entry.name)
                    else:
                        names.add(entry.name)
            hidden.update(whiteouts)
            hidden.update(names)
        return names


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is overlayfs's mark for a deleted name: a character device with the numbers 0 and 0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _may_be_device(entry: os.DirEntry[bytes]) -> bool:
    return not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False) or entry.is_symlink())
