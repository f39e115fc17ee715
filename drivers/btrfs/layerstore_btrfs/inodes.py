"""The inodes of one subvolume, read from its tree."""

from __future__ import annotations

import stat
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from layerstore_btrfs import search
from layerstore_btrfs.search import Item

# struct btrfs_inode_item: generation, transid, size, nbytes, (block_group), nlink, uid, gid, mode, rdev, flags,
# (sequence, reserved, atime), ctime, mtime, (otime)
_INODE: Final = struct.Struct("=QQQQ8xIIIIQQ8x32x12xqIqI12x")
_REF: Final = struct.Struct("=QH")  # index, length of the name
_EXTREF: Final = struct.Struct("=QQH")  # directory, index, length of the name
_DIR_ITEM: Final = struct.Struct("=QBQQHHB")  # location's key, transid, lengths of data and name, type
_FT_DIR: Final = 2


class InodeState(NamedTuple):
    """The fields of an inode item that change when the inode changes. The time of access is not among them."""

    generation: int
    size: int
    nbytes: int
    links: int
    uid: int
    gid: int
    mode: int
    device: int
    flags: int
    ctime: int
    ctime_nsec: int
    mtime: int
    mtime_nsec: int

    @property
    def ctime_ns(self) -> int:
        """The time of the last change of the inode, in nanoseconds since the epoch."""
        return self.ctime * 10**9 + self.ctime_nsec


@dataclass(slots=True)
class Inode:
    """An inode with its names and other items.

    Attributes:
        state: the inode item.
        names: for each of its names: the inode number of the directory, and the name there.
        rest: its extended attributes and extents, and for a directory its entries, all as on disk.
    """

    state: InodeState
    names: list[tuple[int, bytes]] = field(default_factory=list)
    rest: list[Item] = field(default_factory=list)

    @property
    def is_directory(self) -> bool:
        """Whether the inode is a directory."""
        return stat.S_ISDIR(self.state.mode)


class Tree:
    """The tree of a subvolume. It does not have changes that are not committed yet.

    Args:
        fd: a descriptor of the subvolume's root.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._paths: dict[int, bytes | None] = {search.FIRST_FREE: b""}

    def touched_since(self, transaction: int) -> dict[int, InodeState]:
        """Return the inodes that this transaction or a later one has touched, by number."""
        first = (search.FIRST_FREE, search.INODE_ITEM, 0)
        last = (search.LAST_FREE, search.INODE_ITEM, 0)
        found = {}
        for item in search.items(self._fd, 0, first, last, min_transaction=transaction, only=search.INODE_ITEM):
            touched, state = _parse(item.data)
            if touched >= transaction:
                found[item.object] = state
        return found

    def states(self, batch: list[int]) -> dict[int, InodeState]:
        """Return the states of those inodes in `batch` that exist, by number.

        Args:
            batch: inode numbers, sorted. Large gaps between them cost time.
        """
        wanted = frozenset(batch)
        first, last = (batch[0], search.INODE_ITEM, 0), (batch[-1], search.INODE_ITEM, 0)
        return {
            item.object: _parse(item.data)[1]
            for item in search.items(self._fd, 0, first, last, only=search.INODE_ITEM)
            if item.object in wanted
        }

    def inodes(self, batch: list[int], *, last_type: int = search.MAX_TYPE) -> dict[int, Inode]:
        """Return those inodes in `batch` that exist, by number, with their items up to the type `last_type`."""
        wanted = frozenset(batch)
        found: dict[int, Inode] = {}
        for item in search.items(self._fd, 0, (batch[0], 0, 0), (batch[-1], last_type, search.MAX_OFFSET)):
            number = item.object
            if number not in wanted or item.type > last_type:
                continue
            if item.type == search.INODE_ITEM:
                found[number] = Inode(_parse(item.data)[1])
            elif number in found:
                if item.type in (search.INODE_REF, search.INODE_EXTREF):
                    found[number].names += _names(item)
                else:
                    found[number].rest.append(item)
        return found

    def entries(self, directory: int) -> tuple[set[int], set[int]]:
        """Return the inode numbers of a directory's entries: those of directories, and those of other files."""
        directories: set[int] = set()
        others: set[int] = set()
        for item in search.of_object(self._fd, 0, directory, (search.DIR_INDEX, search.DIR_INDEX)):
            number, key_type, _, _, _, _, kind = _DIR_ITEM.unpack_from(item.data)
            if key_type == search.INODE_ITEM:
                (directories if kind == _FT_DIR else others).add(number)
        return directories, others

    def paths(self, names: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        """Yield the paths of an inode in the subvolume, each beginning with a slash."""
        for directory, name in names:
            parent = self._directory_path(directory)
            # The root directory has the name `..` in itself.
            if directory == search.FIRST_FREE and name == b"..":
                yield b"/"
            elif parent is not None:
                yield parent + b"/" + name

    def _directory_path(self, directory: int) -> bytes | None:
        """Return the path of a directory, `b""` for the root; `None` if it was deleted while it was open."""
        passed: list[tuple[int, bytes]] = []
        current = directory
        while current not in self._paths:
            name = next(self._names_of(current), None)
            if name is None:
                self._paths[current] = None
                break
            passed.append((current, name[1]))
            current = name[0]
        path = self._paths[current]
        for number, base in reversed(passed):
            path = None if path is None else path + b"/" + base
            self._paths[number] = path
        return path

    def _names_of(self, inode: int) -> Iterator[tuple[int, bytes]]:
        for item in search.of_object(self._fd, 0, inode, (search.INODE_REF, search.INODE_EXTREF)):
            yield from _names(item)


def _parse(data: bytes) -> tuple[int, InodeState]:
    """Parse an inode item; return the transaction that last touched the inode, and the inode's state."""
    generation, transaction, *state = _INODE.unpack_from(data)
    return transaction, InodeState(generation, *state)


def _names(item: Item) -> Collection[tuple[int, bytes]]:
    """Return the names in an item `INODE_REF` or `INODE_EXTREF`, each with the inode number of its directory."""
    found = []
    position = 0
    while position < len(item.data):
        if item.type == search.INODE_REF:
            parent = item.offset
            _, length = _REF.unpack_from(item.data, position)
            position += _REF.size
        else:
            parent, _, length = _EXTREF.unpack_from(item.data, position)
            position += _EXTREF.size
        found.append((parent, item.data[position : position + length]))
        position += length
    return found
