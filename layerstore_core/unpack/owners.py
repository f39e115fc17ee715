"""The owners that the files of one layer get, as far as this process may set them."""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

from layerstore_core.errors import InvalidLayer
from layerstore_core.tree.idmap import IDMapping

_NO_ID: Final = (1 << 32) - 1
#: The most owners that are cached.
_MAX_OWNERS: Final = 1024

#: User and group to set, -1 for one that stays as it is; `None` if owners cannot be set.
Owner = tuple[int, int] | None


class Owners:
    """Owners of the files of one layer.

    Args:
        id_mapping: shifts the entries' user and group IDs.

    Attributes:
        own: this process's user and group, which new files have.
        privileged: whether it is root.
        user_ids: the users that files can have.
        group_ids: the groups that files can have.
        left_out: how many entries have lost what, because this process may not set it.
    """

    def __init__(self, id_mapping: IDMapping) -> None:
        self._id_mapping = id_mapping
        self.own = os.geteuid(), os.getegid()
        self.privileged = self.own[0] == 0
        self.user_ids, self.group_ids = NamespaceIDs("/proc/self/uid_map"), NamespaceIDs("/proc/self/gid_map")
        self.left_out: Counter[str] = Counter()
        self._known: dict[tuple[int, int], tuple[Owner, str | None]] = {}

    def of(self, uid: int, gid: int) -> Owner:
        """Return the owner to set, as IDs of this host, and count it if it is left out.

        Args:
            uid: the user in the layer.
            gid: the group in the layer.

        Raises:
            InvalidLayer: no file can have this owner.
        """
        owner, left_out = self.find(uid, gid)
        if left_out is not None:
            self.left_out[left_out] += 1
        return owner

    def find(self, uid: int, gid: int) -> tuple[Owner, str | None]:
        """Return what `of` returns, and what is left out, if anything is; count nothing.

        Raises:
            InvalidLayer: no file can have this owner.
        """
        known = self._known.get((uid, gid))
        if known is None:
            if len(self._known) >= _MAX_OWNERS:
                self._known.clear()
            known = self._known[uid, gid] = self._find(uid, gid)
        return known

    def _find(self, layer_uid: int, layer_gid: int) -> tuple[Owner, str | None]:
        try:
            uid, gid = self._id_mapping.to_host(layer_uid, layer_gid)
        except ValueError as error:
            raise InvalidLayer(str(error)) from error
        # For chown(2), -1 means "leave unchanged". Tars contain it, signed or unsigned, and Docker passes it on.
        uid, gid = -1 if uid == _NO_ID else uid, -1 if gid == _NO_ID else gid
        if not (-1 <= uid < _NO_ID and -1 <= gid < _NO_ID):
            raise InvalidLayer(f"no file can belong to user {layer_uid} and group {layer_gid}")
        if self.privileged:
            unknown = uid not in self.user_ids and uid != -1, gid not in self.group_ids and gid != -1
            left_out = "owners that this user namespace does not have" if any(unknown) else None
            return (-1 if unknown[0] else uid, -1 if unknown[1] else gid), left_out
        return None, "owners" if (uid, gid) != self.own else None


class NamespaceIDs:
    """User or group IDs that files can have in this user namespace (user_namespaces(7)).

    A namespace made by an ordinary user has few IDs: often only that of its own root user.
    """

    def __init__(self, path: str) -> None:
        self._ranges: list[range] = []
        try:
            with open(path, encoding="ascii") as lines:
                for line in lines:
                    first, _, count = map(int, line.split())
                    self._ranges.append(range(first, first + count))
        except (OSError, ValueError):
            self._ranges.append(range(_NO_ID))

    def __contains__(self, one: int) -> bool:
        return any(one in known for known in self._ranges)

    @property
    def complete(self) -> bool:
        """Whether the namespace has all IDs."""
        return self._ranges == [range(_NO_ID)]
