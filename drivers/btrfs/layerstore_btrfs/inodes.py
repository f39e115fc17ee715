"""The inodes of one subvolume, read from its tree."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from layerstore_btrfs import search
from layerstore_btrfs.search import Item

# struct btrfs_inode_item: generation, transid, size, nbytes, (block_group), nlink, uid, gid, mode, rdev, flags,
# (sequence, reserved, atime), ctime, mtime, (otime)
_INODE: Final = struct.Struct("=QQQQ8xIIIIQQ8x32x12xqIqI12x")
_TRANSID: Final = struct.Struct("=8xQ")
_REF: Final = struct.Struct("=QH")  # index, length of the name
_EXTREF: Final = struct.Struct("=QQH")  # directory, index, length of the name
_DIR_ITEM: Final = struct.Struct("=QBQQHHB")  # location's key, transid, lengths of data and name, type
_FT_DIR: Final = 2
_S_IFMT: Final = 0o170000
_S_IFDIR: Final = 0o040000


@dataclass(slots=True)
class Inode:
    """An inode with all that belongs to it; two are equal where nothing but a time of access differs.

    Attributes:
        state: of the inode item, what every change changes: its ctime, and more.
        names: the directories that it is in, by inode, and its name there.
        rest: its extended attributes, extents, and if it is a directory, its entries, as they are on disk.
    """

    state: tuple[int, ...] = ()
    names: list[tuple[int, bytes]] = field(default_factory=list)
    rest: list[Item] = field(default_factory=list)

    @property
    def links(self) -> int:
        """How many names it has."""
        return self.state[3]

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.state[6] & _S_IFMT == _S_IFDIR


class Tree:
    """The tree of the subvolume that is open as `fd`. What has not been committed is not in it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._paths: dict[int, bytes | None] = {search.FIRST_FREE: b""}

    def touched_since(self, transaction: int) -> set[int]:
        """The inodes that a transaction or a later one has touched."""
        first = (search.FIRST_FREE, search.INODE_ITEM, 0)
        last = (search.LAST_FREE, search.INODE_ITEM, 0)
        return {
            item.object
            for item in search.items(self._fd, 0, first, last, min_transaction=transaction, only=search.INODE_ITEM)
            if _TRANSID.unpack_from(item.data)[0] >= transaction
        }

    def inodes(self, run: list[int]) -> dict[int, Inode]:
        """Those of some inodes that there are; `run` is sorted, and best without large gaps."""
        wanted = frozenset(run)
        found: dict[int, Inode] = {}
        for item in search.items(self._fd, 0, (run[0], 0, 0), (run[-1], search.MAX_TYPE, search.MAX_OFFSET)):
            number = item.object
            if number not in wanted:
                continue
            if item.type == search.INODE_ITEM:
                generation, _transid, *state = _INODE.unpack_from(item.data)
                found[number] = Inode((generation, *state))
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
