"""Unpacking straight into a layer's own directory, where marks stand for what is deleted below.

A layer whose tar leaves out the directories that its files are in gets them with the metadata that they
have below: made anew they would hide it. (Docker makes them root's, with mode 0755.) And a whiteout in a
directory that nothing below is merged with is taken away: overlayfs would list it. Layers of one image may
be applied at the same time, so what is below may come later: such paths are noted beside the layer, and
settled before it is first mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Final, NamedTuple

from layerstore_core import WhiteoutStyle, copy_metadata
from layerstore_core.errors import InvalidLayer
from layerstore_core.sdk import Descriptor, Directory, Root, copy_extents, inside
from layerstore_overlay.lowers import Found, LowerLayers, OverlayXattrs, is_whiteout

#: Directories that `bring_up` makes; `give_metadata` gives them what they have below.
_IMPLIED_MODE: Final = 0o755


class Notes(NamedTuple):
    """Paths in a layer's own directory that depend on what is below.

    Attributes:
        implied: directories that the tar left out, parents first; `b""` is the root.
        whiteouts: whiteouts that are not at the root.
    """

    implied: list[bytes]
    whiteouts: list[bytes]


class OverlayWhiteouts(WhiteoutStyle):
    """Whiteouts as overlayfs has them.

    Args:
        below: the merged tree of the layers below, as it is when it is complete.
        xattrs: how opaque directories are marked.
        await_below: waits until it is complete.

    Attributes:
        notes: what is to be settled.
    """

    def __init__(self, below: LowerLayers, xattrs: OverlayXattrs, await_below: Callable[[], None]) -> None:
        self._below = below
        self._xattrs = xattrs
        self._await_below = await_below
        self.notes = Notes([], [])
        #: By layer below, of those that files have been copied up from: its files with several names.
        self._names: dict[bytes, dict[int, list[bytes]]] = {}

    def whiteout(self, directory: Directory, base: bytes) -> None:
        """Make a device 0:0."""
        os.mknod(base, stat.S_IFCHR, 0, dir_fd=directory.fd)
        if directory.path:
            self.notes.whiteouts.append(directory.path + b"/" + base)

    def opaque(self, directory: Directory) -> None:
        """Set the attribute."""
        os.setxattr(directory.fd, self._xattrs.opaque, b"y")

    def is_whiteout(self, status: os.stat_result) -> bool:
        """Whether it is a device 0:0."""
        return is_whiteout(status)

    def below(self, tree: Root, path: bytes) -> bytes | bool | None:
        """Look it up; layers that are on their way have to be waited for."""
        self._await_below()
        found = self._below.first(path)
        if found is None or way_to(tree.path, path, self._xattrs) is not Way.OPEN:
            return None
        return os.readlink(found.path) if stat.S_ISLNK(found.status.st_mode) else stat.S_ISDIR(found.status.st_mode)

    def bring_up(self, tree: Root, name: bytes) -> bool:
        """Copy a file of any type but a directory, and link it to all the names that it has below.

        overlayfs, when it copies a file up, leaves the other names behind.
        """
        if way_to(tree.path, name, self._xattrs) is not Way.OPEN:
            return False
        self._await_below()
        found = self._below.first(name)
        if found is None:
            return False
        if stat.S_ISDIR(found.status.st_mode):
            raise InvalidLayer("a hard link to a directory")
        parent, _, base = name.rpartition(b"/")
        directory = tree.enter(parent, create_mode=_IMPLIED_MODE)
        if stat.S_ISREG(found.status.st_mode):
            _copy_content(found, base, directory.fd)
        elif stat.S_ISLNK(found.status.st_mode):
            with inside.parent(found.path) as (above, link):
                os.symlink(os.readlink(link, dir_fd=above), base, dir_fd=directory.fd)
        else:
            os.mknod(base, stat.S_IFMT(found.status.st_mode) | 0o600, found.status.st_rdev, dir_fd=directory.fd)
        copy_metadata(found.path, b"/proc/self/fd/%d/%b" % (directory.fd, base))
        if found.status.st_nlink > 1:
            with tree.pinned(directory):
                for other in self._other_names(tree, name, found):
                    parent, _, other_base = other.rpartition(b"/")
                    place = tree.enter(parent, create_mode=_IMPLIED_MODE)
                    os.link(base, other_base, src_dir_fd=directory.fd, dst_dir_fd=place.fd, follow_symlinks=False)
        return True

    def _other_names(self, tree: Root, name: bytes, found: Found) -> list[bytes]:
        """The other names of a file below that the layer shows, as far as it has been unpacked."""
        layer = found.path[: -len(name)]
        others = []
        if layer not in self._names:
            self._names[layer] = _find_names(layer)
        for path in self._names[layer].get(found.status.st_ino, ()):
            if path == name or os.path.lexists(os.path.join(tree.path, path)):
                continue
            shown = self._below.first(path)
            hidden = way_to(tree.path, path, self._xattrs) is not Way.OPEN
            if shown and os.path.samestat(shown.status, found.status) and not hidden:
                others.append(path)
        return others

    def implied(self, paths: Iterable[bytes]) -> None:
        """Take note of those that the layers below have: these are complete, since `below` was asked of each."""
        self.notes.implied.extend(path for path in paths if not path or _shows_directory(self._below, path))


class Way(Enum):
    """How a path in a layer's own directory is to what is below at the same path."""

    #: What is below shows.
    OPEN = "open"
    #: A directory above it is opaque.
    OPAQUE = "opaque"
    #: Something above it is no directory: a link there leads elsewhere, and must not be followed.
    BLOCKED = "blocked"


def way_to(upper: bytes, path: bytes, xattrs: OverlayXattrs) -> Way:
    """Look at the directories above `path`, relative to a layer's own directory; those that are missing hide nothing."""
    way = Way.OPEN
    parts = path.split(b"/")
    for depth in range(len(parts)):
        here = os.path.join(upper, *parts[:depth])
        try:
            if not stat.S_ISDIR(os.lstat(here).st_mode):
                return Way.BLOCKED
        except FileNotFoundError:
            return way
        if xattrs.is_opaque(here):
            way = Way.OPAQUE
    return way


def give_metadata(upper: bytes, implied: Sequence[bytes], below: LowerLayers, xattrs: OverlayXattrs) -> None:
    """Give directories that a layer's tar left out the metadata that they have below.

    Args:
        upper: the layer's own directory.
        implied: the directories, relative to it.
        below: the merged tree of the layers below.
        xattrs: how opaque directories are marked.
    """
    for path in implied:
        target = os.path.join(upper, path)
        # The root is its parent's even where it hides all that is in that.
        if path and (way_to(upper, path, xattrs) is not Way.OPEN or not _is_directory(target)):
            continue
        found = below.first(path)
        if found is not None and stat.S_ISDIR(found.status.st_mode):
            copy_metadata(found.path, target)


def drop_idle_whiteouts(upper: bytes, whiteouts: Sequence[bytes], below: LowerLayers, xattrs: OverlayXattrs) -> None:
    """Remove whiteouts from directories that nothing is merged with. `below` must be complete."""
    for path in whiteouts:
        directory = path.rpartition(b"/")[0]
        way = way_to(upper, path, xattrs)
        if way is Way.BLOCKED or (way is Way.OPEN and _shows_directory(below, directory)):
            continue
        with suppress(FileNotFoundError), inside.parent(os.path.join(upper, path)) as (above, base):
            if is_whiteout(os.stat(base, dir_fd=above, follow_symlinks=False)):
                times = os.fstat(above)
                os.unlink(base, dir_fd=above)
                os.utime(f"/proc/self/fd/{above}", ns=(times.st_atime_ns, times.st_mtime_ns))


def _shows_directory(below: LowerLayers, path: bytes) -> bool:
    found = below.first(path)
    return found is not None and stat.S_ISDIR(found.status.st_mode)


def _find_names(root: bytes) -> dict[int, list[bytes]]:
    """The paths below `root`, relative to it, of files with several names, by inode number."""
    names: dict[int, list[bytes]] = {}
    pending = [b""]
    while pending:
        directory = pending.pop()
        with os.scandir(os.path.join(root, directory)) as entries:
            for entry in entries:
                path = os.path.join(directory, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                elif entry.stat(follow_symlinks=False).st_nlink > 1:
                    names.setdefault(entry.inode(), []).append(path)
    return names


def _is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _copy_content(found: Found, base: bytes, directory: int) -> None:
    """Copy a regular file, with its holes, to a new one: what is sparse may be longer than the disk."""
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with inside.open_file(found.path) as source, Descriptor(os.open, base, new, 0o600, dir_fd=directory) as copy:
        copy_extents(source, copy, found.status)
