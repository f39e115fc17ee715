"""Shifts of user and group IDs between the layer's numbers and the host's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class IDRange(NamedTuple):
    """Range of IDs: `length` IDs from `container` in the layer are those from `host` on this machine."""

    container: int
    host: int
    length: int


class IDMapping(NamedTuple):
    """Mapping between IDs in layers and IDs on disk. The empty mapping changes nothing."""

    uids: Sequence[IDRange] = ()
    gids: Sequence[IDRange] = ()

    def __bool__(self) -> bool:
        return bool(self.uids or self.gids)

    def to_host(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the host's IDs for a layer's.

        Raises:
            ValueError: an ID is in no range.
        """
        return shifted(self.uids, uid, "uid", to_host=True), shifted(self.gids, gid, "gid", to_host=True)

    def to_container(self, uid: int, gid: int) -> tuple[int, int]:
        """Return a layer's IDs for the host's.

        Raises:
            ValueError: an ID is in no range.
        """
        return shifted(self.uids, uid, "uid", to_host=False), shifted(self.gids, gid, "gid", to_host=False)

    def root_pair(self) -> tuple[int, int]:
        """Return the host's IDs of the layer's root user and group."""
        return self.to_host(0, 0)


def shifted(ranges: Sequence[IDRange], value: int, what: str, *, to_host: bool) -> int:
    """Return the host's ID for a layer's, or the other way round.

    Args:
        ranges: the mapping; empty for one that changes nothing.
        value: the ID.
        what: the kind of ID, for the error.
        to_host: whether `value` is a layer's.

    Raises:
        ValueError: the ID is in no range.
    """
    if not ranges:
        return value
    for one in ranges:
        start, other = (one.container, one.host) if to_host else (one.host, one.container)
        if start <= value < start + one.length:
            return other + value - start
    side = "layer" if to_host else "host"
    raise ValueError(f"{side} {what} {value} is in none of the store's ID ranges; widen the ID mapping")
