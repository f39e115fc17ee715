"""Unpacking a tar directly into a layer's own directory, with marks for what is deleted in lower layers.

A tar may have files without the directories that they are in. Those directories are made with the metadata that they
have in the lower layers, since other metadata would hide that. (Docker makes them owned by root, with mode 0755.) A
whiteout in a directory that is merged with no lower one is removed, because overlayfs would list it.

The layers of one image may be applied at the same time, so lower layers may be incomplete. Such paths are noted in the
layer's directory, and the notes are applied before the layer is first mounted.
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
from layerstore_overlay.lowers import LowerFile, LowerLayers, OverlayXattrs, is_whiteout

#: The mode of directories that `bring_up` makes, until `inherit_metadata` sets that of the lower directory.
_IMPLIED_MODE: Final = 0o755


class Notes(NamedTuple):
    """Paths in a layer's own directory that depend on lower layers.

    Attributes:
        implied: directories that the tar has no entries for, parents first; `b""` is the root.
        whiteouts: whiteouts, except those in the root directory.
    """

    implied: list[bytes]
    whiteouts: list[bytes]


class OverlayWhiteouts(WhiteoutStyle):
    """The marks of overlayfs: whiteout devices and opaque directories.

    Args:
        lowers: the merged tree of the lower layers, as it is when they are complete.
        xattrs: how opaque directories are marked.
        await_lowers: waits until the lower layers are complete.

    Attributes:
        notes: the paths for which the layer needs a note.
    """

    def __init__(self, lowers: LowerLayers, xattrs: OverlayXattrs, await_lowers: Callable[[], None]) -> None:
        self._lowers = lowers
        self._xattrs = xattrs
        self._await_lowers = await_lowers
        self.notes = Notes([], [])
        #: The hard-linked files of each lower layer from which files were copied up: paths by inode number.
        self._hard_links: dict[bytes, dict[int, list[bytes]]] = {}

    def whiteout(self, directory: Directory, base: bytes) -> None:
        """Make a whiteout: a character device 0:0."""
        os.mknod(base, stat.S_IFCHR, 0, dir_fd=directory.fd)
        if directory.path:
            self.notes.whiteouts.append(directory.path + b"/" + base)

    def opaque(self, directory: Directory) -> None:
        """Mark a directory as opaque."""
        os.setxattr(directory.fd, self._xattrs.opaque, b"y")

    def is_whiteout(self, status: os.stat_result) -> bool:
        """Return whether a file is a character device 0:0."""
        return is_whiteout(status)

    def below(self, tree: Root, path: bytes) -> bytes | bool | None:
        """Look up what the lower layers show at a path; wait until they are complete."""
        self._await_lowers()
        found = self._lowers.first(path)
        if found is None or way_to(tree.path, path, self._xattrs) is not Way.OPEN:
            return None
        return os.readlink(found.path) if stat.S_ISLNK(found.status.st_mode) else stat.S_ISDIR(found.status.st_mode)

    def bring_up(self, tree: Root, name: bytes) -> bool:
        """Copy up a file of any type except a directory, with all its hard links in the lower layer.

        (overlayfs itself copies up one name only.)
        """
        if way_to(tree.path, name, self._xattrs) is not Way.OPEN:
            return False
        self._await_lowers()
        found = self._lowers.first(name)
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
                for other in self._other_hard_links(tree, name, found):
                    parent, _, other_base = other.rpartition(b"/")
                    place = tree.enter(parent, create_mode=_IMPLIED_MODE)
                    os.link(base, other_base, src_dir_fd=directory.fd, dst_dir_fd=place.fd, follow_symlinks=False)
        return True

    def _other_hard_links(self, tree: Root, name: bytes, found: LowerFile) -> list[bytes]:
        """Return the other hard links of a lower file that show in the layer, as far as it has been unpacked."""
        layer = found.path[: -len(name)]
        others = []
        if layer not in self._hard_links:
            self._hard_links[layer] = _find_hard_links(layer)
        for path in self._hard_links[layer].get(found.status.st_ino, ()):
            if path == name or os.path.lexists(os.path.join(tree.path, path)):
                continue
            shown = self._lowers.first(path)
            hidden = way_to(tree.path, path, self._xattrs) is not Way.OPEN
            if shown and os.path.samestat(shown.status, found.status) and not hidden:
                others.append(path)
        return others

    def implied(self, paths: Iterable[bytes]) -> None:
        """Note the directories that the lower layers have. These are complete: `below` has waited for them."""
        self.notes.implied.extend(path for path in paths if not path or _is_lower_directory(self._lowers, path))


class Way(Enum):
    """Whether the lower layers' file at a path shows through the layer's own directory."""

    #: It shows.
    OPEN = "open"
    #: It does not: a directory on the way is opaque.
    OPAQUE = "opaque"
    #: It does not: a file on the way is no directory. A symbolic link leads elsewhere, and must not be followed.
    BLOCKED = "blocked"


def way_to(upper: bytes, path: bytes, xattrs: OverlayXattrs) -> Way:
    """Return whether the lower file at `path` shows, from the directories on the way. A missing one hides nothing.

    Args:
        upper: the layer's own directory.
        path: the path, relative to it.
        xattrs: how opaque directories are marked.
    """
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


def inherit_metadata(upper: bytes, implied: Sequence[bytes], lowers: LowerLayers, xattrs: OverlayXattrs) -> None:
    """Copy metadata from lower directories to the layer's directories for which its tar has no entries.

    Args:
        upper: the layer's own directory.
        implied: the directories, relative to it.
        lowers: the merged tree of the lower layers.
        xattrs: how opaque directories are marked.
    """
    for path in implied:
        target = os.path.join(upper, path)
        # The root inherits its metadata even if it is opaque.
        if path and (way_to(upper, path, xattrs) is not Way.OPEN or not _is_directory(target)):
            continue
        found = lowers.first(path)
        if found is not None and stat.S_ISDIR(found.status.st_mode):
            copy_metadata(found.path, target)


def remove_idle_whiteouts(upper: bytes, whiteouts: Sequence[bytes], lowers: LowerLayers, xattrs: OverlayXattrs) -> None:
    """Remove whiteouts from directories that are merged with no lower one. `lowers` must be complete."""
    for path in whiteouts:
        directory = path.rpartition(b"/")[0]
        way = way_to(upper, path, xattrs)
        if way is Way.BLOCKED or (way is Way.OPEN and _is_lower_directory(lowers, directory)):
            continue
        with suppress(FileNotFoundError), inside.parent(os.path.join(upper, path)) as (above, base):
            if is_whiteout(os.stat(base, dir_fd=above, follow_symlinks=False)):
                times = os.fstat(above)
                os.unlink(base, dir_fd=above)
                os.utime(f"/proc/self/fd/{above}", ns=(times.st_atime_ns, times.st_mtime_ns))


def _is_lower_directory(lowers: LowerLayers, path: bytes) -> bool:
    found = lowers.first(path)
    return found is not None and stat.S_ISDIR(found.status.st_mode)


def _find_hard_links(root: bytes) -> dict[int, list[bytes]]:
    """Return the paths of hard-linked files in the tree `root`, relative to it, by inode number."""
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


def _copy_content(found: LowerFile, base: bytes, directory: int) -> None:
    """Copy a regular file to a new one, and keep its holes: a sparse file may be longer than the disk."""
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with inside.open_file(found.path) as source, Descriptor(os.open, base, new, 0o600, dir_fd=directory) as copy:
        copy_extents(source, copy, found.status)
