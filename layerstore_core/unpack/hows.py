"""How the kernels are to make what is of one kind: decided once for each kind and for directories that are alike."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from struct import Struct
from typing import Final

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.run import DIRECTORY, FILE, HARDLINK
from layerstore_core.unpack.create import Creator

#: `struct ls_how` of the kernels: mode, user, group and flags.
_HOW: Final = Struct("=IIII")
#: What the flags say: set the owner; set the mode; remove inherited access lists; leave it to Python; remove a file
#: that has the name.
_SET_OWNER, _SET_MODE, _DROP_LISTS, _NOT_PLAIN, _REPLACE = 1, 2, 4, 8, 16
_UNCHANGED: Final = (1 << 32) - 1

#: The most kinds whose answer is kept.
_MAX_KNOWN: Final = 1024

#: Type, mode, user and group of entries that are alike, and how many of them a run has.
Kind = tuple[int, int, int, int, int]


class Hows:
    """What says how the kinds of a run are made.

    Args:
        creator: makes single entries, and so says what is right.
    """

    def __init__(self, creator: Creator) -> None:
        self._creator = creator
        #: By all that they depend on.
        self._known: dict[tuple[object, ...], bytes] = {}
        self._kinds: Sequence[Kind] = ()
        #: Those of all kinds of the run.
        self._packed: dict[tuple[object, ...], bytes] = {}

    def begin(self, kinds: Sequence[Kind]) -> None:
        """Begin with a run that has entries of these kinds."""
        self._kinds = kinds
        self._packed.clear()

    def pack(self, setgid: bool, inherits_acl: bool, *, replace: bool) -> bytes:
        """Return how entries of the run's kinds are made in directories that are alike.

        Args:
            setgid: whether new files get the group of their directory.
            inherits_acl: whether they inherit an access list.
            replace: whether a file that has an entry's name may just be removed.
        """
        where = (setgid, inherits_acl, replace, self._creator.always_chown)
        packed = self._packed.get(where)
        if packed is None:
            packed = self._packed[where] = b"".join(
                [self._known_how(kind, where, setgid, inherits_acl, replace) for kind in self._kinds]
            )
        return packed

    def _known_how(
        self, kind: Kind, where: tuple[object, ...], setgid: bool, inherits_acl: bool, replace: bool
    ) -> bytes:
        key = (kind[:4], where)
        how = self._known.get(key)
        if how is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            how = self._known[key] = self._how(kind, setgid, inherits_acl, replace)
        return how

    def _how(self, kind: Kind, setgid: bool, inherits_acl: bool, replace: bool) -> bytes:
        file_type, mode, uid, gid, _ = kind
        creator = self._creator
        is_directory = file_type == DIRECTORY
        try:
            owner = creator.owners.find(uid, gid)[0]
        except InvalidLayer:  # said when it is the turn of the first such entry
            return _HOW.pack(0, 0, 0, _NOT_PLAIN)
        mode = creator.mode(mode, is_directory=is_directory)
        if file_type == FILE and creator.always_chown is None:
            return _HOW.pack(0, 0, 0, _NOT_PLAIN)  # a first file has to show how the file system sets owners
        if is_directory and mode & stat.S_ISGID:
            return _HOW.pack(0, 0, 0, _NOT_PLAIN)  # files are made in another way there
        flags = _REPLACE if replace else 0
        if file_type in (FILE, DIRECTORY):
            # A new directory inherits the set-group-ID bit of its parent.
            flags |= _SET_MODE if (is_directory and setgid) or creator.is_mode_to_be_set(mode, inherits_acl) else 0
            flags |= _DROP_LISTS if inherits_acl else 0
        elif file_type == HARDLINK:
            flags |= _SET_MODE
        if owner is None or not (file_type == HARDLINK or creator.is_owner_to_be_set(owner, setgid)):
            return _HOW.pack(mode, _UNCHANGED, _UNCHANGED, flags)
        return _HOW.pack(mode, owner[0] & _UNCHANGED, owner[1] & _UNCHANGED, flags | _SET_OWNER)
