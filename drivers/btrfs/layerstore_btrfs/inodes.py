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
    """Of an inode item, all that a change of the inode changes; reading it, a change of its time of access, does not."""

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
        """When it was last changed, in nanoseconds of the epoch."""
        return self.ctime * 10**9 + self.ctime_nsec


@dataclass(slots=True)
class Inode:
    """An inode with what belongs to it.

    Attributes:
        state: the inode itself.
        names: the directories that it is in, by inode, and its name there.
        rest: its extended attributes, extents, and if it is a directory, its entries, as they are on disk.
    """

    state: InodeState
    names: list[tuple[int, bytes]] = field(default_factory=list)
    rest: list[Item] = field(default_factory=list)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.state.mode)


class Tree:
    """The tree of the subvolume that is open as `fd`. What has not been committed is not in it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._paths: dict[int, bytes | None] = {search.FIRST_FREE: b""}

    def touched_since(self, transaction: int) -> dict[int, InodeState]:
        """The inodes that a transaction or a later one has touched."""
        first = (search.FIRST_FREE, search.INODE_ITEM, 0)
        last = (search.LAST_FREE, search.INODE_ITEM, 0)
        found = {}
        for item in search.items(self._fd, 0, first, last, min_transaction=transaction, only=search.INODE_ITEM):
            touched, state = _parse(item.data)
            if touched >= transaction:
                found[item.object] = state
        return found

    def states(self, run: list[int]) -> dict[int, InodeState]:
        """Those of some inodes that there are; `run` is sorted, and best without large gaps."""
        wanted = frozenset(run)
        first, last = (run[0], search.INODE_ITEM, 0), (run[-1], search.INODE_ITEM, 0)
        return {
            item.object: _parse(item.data)[1]
            for item in search.items(self._fd, 0, first, last, only=search.INODE_ITEM)
            if item.object in wanted
        }

    def inodes(self, run: list[int], *, last_type: int = search.MAX_TYPE) -> dict[int, Inode]:
        """As `states`, with what belongs to the inodes, up to items of the type `last_type`."""
        wanted = frozenset(run)
        found: dict[int, Inode] = {}
        for item in search.items(self._fd, 0, (run[0], 0, 0), (run[-1], last_type, search.MAX_OFFSET)):
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
        """The inodes in a directory: its directories, and what else there is."""
        directories: set[int] = set()
        others: set[int] = set()
        for item in search.of_object(self._fd, 0, directory, (search.DIR_INDEX, search.DIR_INDEX)):
            number, key_type, _, _, _, _, kind = _DIR_ITEM.unpack_from(item.data)
            if key_type == search.INODE_ITEM:
                (directories if kind == _FT_DIR else others).add(number)
        return directories, others

    def paths(self, names: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        """The paths of an inode within the subvolume, each with a slash in front."""
        for directory, name in names:
            above = self._directory_path(directory)
            # The root's own name is `..`, in itself.
            if directory == search.FIRST_FREE and name == b"..":
                yield b"/"
            elif above is not None:
                yield above + b"/" + name

    def _directory_path(self, directory: int) -> bytes | None:
        """The path of a directory, `b""` for the root; `None` where it has none, deleted but still open."""
        below: list[tuple[int, bytes]] = []
        current = directory
        while current not in self._paths:
            name = next(self._names_of(current), None)
            if name is None:
                self._paths[current] = None
                break
            below.append((current, name[1]))
            current = name[0]
        path = self._paths[current]
        for number, base in reversed(below):
            path = None if path is None else path + b"/" + base
            self._paths[number] = path
        return path

    def _names_of(self, inode: int) -> Iterator[tuple[int, bytes]]:
        for item in search.of_object(self._fd, 0, inode, (search.INODE_REF, search.INODE_EXTREF)):
            yield from _names(item)


def _parse(data: bytes) -> tuple[int, InodeState]:
    """Of an inode item, the transaction that last touched the inode, and the state that it is in."""
    generation, transaction, *state = _INODE.unpack_from(data)
    return transaction, InodeState(generation, *state)


def _names(item: Item) -> Collection[tuple[int, bytes]]:
    """The names in an `INODE_REF` or `INODE_EXTREF`: each with the inode of its directory."""
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
