"""Reading the items of btrfs's trees: the keys and structures of Linux's `include/uapi/linux/btrfs_tree.h`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from layerstore_btrfs import ioctl

#: The tree that lists all trees.
ROOT_TREE: Final = 1
#: The tree with the state of quota.
QUOTA_TREE: Final = 8
#: The inode number of a subvolume's root directory, and the lowest ID of a subvolume.
FIRST_FREE: Final = 256
#: The highest inode number in a subvolume, and the highest ID of a subvolume.
LAST_FREE: Final = 2**64 - 256

INODE_ITEM: Final = 1
INODE_REF: Final = 12
INODE_EXTREF: Final = 13
DIR_INDEX: Final = 96
ROOT_REF: Final = 156
QGROUP_STATUS: Final = 240

MAX_OFFSET: Final = 2**64 - 1
MAX_TYPE: Final = 255
# struct btrfs_ioctl_search_header: transaction of the block, object, offset, type, length
_HEADER: Final = struct.Struct("=QQQII")
_OBJECT_AND_OFFSET: Final = struct.Struct("=8xQQ")
_TYPE_AND_LENGTH: Final = struct.Struct("=24xII")
#: In bytes: more than any item needs, and enough for many leaves.
_BUFFER_SIZE: Final = 256 * 1024


class Item(NamedTuple):
    """An item of a tree: its key, and its content as on disk."""

    object: int
    type: int
    offset: int
    data: bytes


def items(
    directory: int,
    tree: int,
    first: tuple[int, int, int],
    last: tuple[int, int, int],
    *,
    min_transaction: int = 0,
    only: int | None = None,
    buffer_size: int = _BUFFER_SIZE,
) -> Iterator[Item]:
    """Yield the items of a tree from key `first` to key `last`, in the order of their keys.

    Args:
        directory: a descriptor on the file system.
        tree: the tree's ID; 0 means the tree of the subvolume that `directory` is in.
        first: object, type and offset of the lowest key.
        last: object, type and offset of the highest key.
        min_transaction: skip blocks of the tree that are older than this transaction. Older items in a newer block
            are yielded.
        only: yield items of this type only. (The kernel returns the others as well.)
        buffer_size: how many bytes to read with each call.

    Raises:
        PermissionError: the caller lacks CAP_SYS_ADMIN.
        FileNotFoundError: there is no such tree.
    """
    buffer = bytearray(ioctl.SEARCH_PREAMBLE + buffer_size)
    while first <= last:
        count = ioctl.tree_search(directory, tree, first, last, min_transaction=min_transaction, buffer=buffer)
        if not count:
            return
        # If many inodes were touched, most of the time is spent in this loop.
        unpack, step = _TYPE_AND_LENGTH.unpack_from, _HEADER.size
        start = end = ioctl.SEARCH_PREAMBLE
        kind = 0
        for _ in range(count):
            start = end
            kind, length = unpack(buffer, start)
            end = start + step + length
            if only is None or kind == only:
                obj, offset = _OBJECT_AND_OFFSET.unpack_from(buffer, start)
                yield Item(obj, kind, offset, bytes(buffer[start + step : end]))
        obj, offset = _OBJECT_AND_OFFSET.unpack_from(buffer, start)
        first = _next_key(obj, kind, offset)


def of_object(directory: int, tree: int, obj: int, types: tuple[int, int] = (0, MAX_TYPE)) -> Iterator[Item]:
    """Yield the items of one object whose types are in the range `types`, both ends included."""
    # A small buffer: it is zeroed at each call, and most inodes have only a few items.
    return items(directory, tree, (obj, types[0], 0), (obj, types[1], MAX_OFFSET), buffer_size=64 * 1024)


def _next_key(obj: int, kind: int, offset: int) -> tuple[int, int, int]:
    if offset < MAX_OFFSET:
        return obj, kind, offset + 1
    if kind < MAX_TYPE:
        return obj, kind + 1, 0
    return obj + 1, 0, 0
