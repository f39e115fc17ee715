"""How the kernels are to make what is of one kind: decided once for each kind and for directories that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.run import FILE, HARDLINK, SYMLINK
from layerstore_core.tree.root import Directory
from layerstore_core.unpack.create import Creator

#: `struct ls_how` of the kernels: mode, user, group and flags.
_HOW: Final = Struct("=IIII")
#: What the flags say: set the owner; set the mode; remove inherited access lists; leave it to Python; remove a file
#: that has the name.
_SET_OWNER, _SET_MODE, _DROP_LISTS, _NOT_PLAIN, _REPLACE = 1, 2, 4, 8, 16
_UNCHANGED: Final = (1 << 32) - 1

#: Type, mode, user and group of entries that are alike, and how many of them a run has.
Kind = tuple[int, int, int, int, int]


def pack_hows(kinds: Sequence[Kind], creator: Creator, directory: Directory, *, replace: bool) -> bytes:
    """Return how entries of a run's kinds are made in a directory, and in others with the same properties.

    Args:
        kinds: the kinds of the run's entries.
        creator: makes single entries, and so says what is right.
        directory: the directory.
        replace: whether a file that has an entry's name may just be removed.
    """
    return b"".join([_how(kind, creator, directory, _REPLACE if replace else 0) for kind in kinds])


def _how(kind: Kind, creator: Creator, directory: Directory, flags: int) -> bytes:
    file_type, mode, uid, gid, _ = kind
    try:
        owner = creator.owners.find(uid, gid)[0]
    except InvalidLayer:  # said when it is the turn of the first such entry
        return _HOW.pack(0, 0, 0, _NOT_PLAIN)
    mode = creator.mode(mode)
    if file_type == FILE:
        if creator.always_chown is None:
            return _HOW.pack(0, 0, 0, _NOT_PLAIN)  # a first file has to show how the file system sets owners
        flags |= _SET_MODE if creator.is_mode_to_be_set(mode, directory) else 0
        flags |= _DROP_LISTS if directory.inherits_acl else 0
    elif file_type == HARDLINK:
        flags |= _SET_MODE
    elif file_type != SYMLINK:
        return _HOW.pack(0, 0, 0, _NOT_PLAIN)
    if owner is None or not (file_type == HARDLINK or creator.is_owner_to_be_set(owner, directory)):
        return _HOW.pack(mode, _UNCHANGED, _UNCHANGED, flags)
    return _HOW.pack(mode, owner[0] & _UNCHANGED, owner[1] & _UNCHANGED, flags | _SET_OWNER)
