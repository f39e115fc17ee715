"""Directory trees as sources of a new layer: what is in one, with metadata, without the contents."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final

from layerstore_core.errors import InvalidSource
from layerstore_core.images.layer.content import TreeFile
from layerstore_core.images.layer.places import Item
from layerstore_core.log import logger
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tree.walk import TreeWalk
from layerstore_core.tree.xattrs import read_xattrs

_TYPES: Final = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIR,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFCHR: EntryType.CHAR,
    stat.S_IFBLK: EntryType.BLOCK,
    stat.S_IFIFO: EntryType.FIFO,
}


def read_tree(
    root: str, forbidden: Mapping[tuple[int, int], str] | None = None
) -> Iterator[tuple[bytes, Item, bytes | None]]:
    """Yield what is in a directory tree: the directory itself, as `b""`, then all below it, parents first.

    Args:
        root: the directory.
        forbidden: directories that must not be in the tree: for each device and inode, why.

    Yields:
        The path below `root`; the file; and, for a file that had another name before, that name.

    Raises:
        InvalidSource: there is a directory that is forbidden, or a device that means a deletion in a layer.
        OSError: something cannot be read.
    """
    first_names: dict[tuple[int, int], bytes] = {}
    sockets = 0
    with TreeWalk(root) as tree:
        status = os.fstat(tree.fd)
        _check(tree, b"", status, forbidden)
        yield b"", Item(_entry(status, EntryType.DIR, read_xattrs(tree.fd))), None
        pending = [_names(tree.fd)]
        while True:
            if not pending[-1]:
                pending.pop()
                if not pending:
                    break
                tree.up()
                continue
            base = pending[-1].pop()
            path = tree.join(base)
            try:
                status = os.stat(base, dir_fd=tree.fd, follow_symlinks=False)
                kind = _TYPES.get(stat.S_IFMT(status.st_mode))
                if kind is None:
                    sockets += 1
                    continue
                xattrs = read_xattrs(tree.handle(base))
            except OSError as error:
                error.filename = tree.absolute(base)
                raise
            _check(tree, base, status, forbidden)
            item = Item(_entry(status, kind, xattrs))
            first = path
            if status.st_nlink > 1 and kind is not EntryType.DIR:
                first = first_names.setdefault((status.st_dev, status.st_ino), path)
            if kind is EntryType.FILE:
                item.content = TreeFile(root, path, status)
                if first == path:
                    os.close(tree.open_file(base))  # an unreadable file is an error now, and not in the middle
            elif kind is EntryType.SYMLINK:
                item.entry.linkname = os.readlink(base, dir_fd=tree.fd)
            yield path, item, None if first == path else first
            if kind is EntryType.DIR:
                tree.down(base)
                pending.append(_names(tree.fd))
    if sockets:
        logger.warning("{}: left out {} sockets, which no tar can hold", root, sockets)


def _names(fd: int) -> list[bytes]:
    with os.scandir(fd) as entries:
        return sorted((os.fsencode(entry.name) for entry in entries), reverse=True)


def _check(
    tree: TreeWalk, base: bytes, status: os.stat_result, forbidden: Mapping[tuple[int, int], str] | None
) -> None:
    if forbidden and (reason := forbidden.get((status.st_dev, status.st_ino))):
        raise InvalidSource(f"{tree.absolute(base)} {reason}")
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        raise InvalidSource(
            f"{tree.absolute(base)} is a character device 0:0, which means a deletion in a layer; remove it"
        )


def owner_in_layer(uid: int, gid: int) -> tuple[int, int]:
    """Return the owner that a file on disk gets in a layer: its own; for an ordinary user's files that is root.

    It is the same in a user namespace, where the user is root, and outside of one.
    """
    user = os.geteuid()
    if user == 0:
        return uid, gid
    return 0 if uid == user else uid, 0 if gid == os.getegid() else gid


def _entry(status: os.stat_result, kind: EntryType, xattrs: Mapping[bytes, bytes]) -> TarEntry:
    entry = TarEntry(
        b"",
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        mtime_ns=status.st_mtime_ns,
        xattrs=xattrs,
    )
    if kind in (EntryType.CHAR, EntryType.BLOCK):
        entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return entry
