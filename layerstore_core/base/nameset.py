"""A set of names that stays small however many there are."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

#: How many hashes are kept in a Python set before they are packed.
_RECENT: Final = 1 << 17
#: Arrays of more hashes than this are not merged any further.
_LONG: Final = 1 << 19
#: How many bits the filter before the arrays has: with a million names in them, one search in nine is in vain.
_FILTER_BITS: Final = 1 << 23


class SeenNames:
    """Which names have been added, at 8 bytes a name for all but the latest.

    Names are kept as their 64-bit hashes, the latest in a set, the others in sorted arrays that are
    merged while they are short (so that there are few). Python's hash of bytes is keyed at random in each
    process: nobody can prepare two names with the same hash, and by chance it is one in 2^64 a pair.

    A filter of one bit for each hash spares nearly all new names the search through the arrays, so that a
    name costs the same however many there are.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._runs: list[array[int]] = []
        self._filter = bytearray()

    def add(self, name: bytes) -> bool:
        """Add a name; `False` where it was there already."""
        key = hash(name)
        recent = self._recent
        if key in recent or (self._runs and self._packed(key)):
            return False
        recent.add(key)
        if len(recent) >= _RECENT:
            self._pack()
        return True

    def add_new(self, names: Sequence[bytes]) -> bool:
        """Add names if all of them are new; `False`, and none is added, where one was there or comes twice."""
        keys = set(map(hash, names))
        if len(keys) < len(names) or not self._recent.isdisjoint(keys):
            return False
        if self._runs and any(map(self._packed, keys)):
            return False
        self._recent |= keys
        if len(self._recent) >= _RECENT:
            self._pack()
        return True

    def update(self, names: Iterable[bytes]) -> None:
        """Add names, whether they were there or not."""
        self._recent.update(map(hash, names))
        if len(self._recent) >= _RECENT:
            self._pack()

    def __contains__(self, name: bytes) -> bool:
        key = hash(name)
        return key in self._recent or (bool(self._runs) and self._packed(key))

    def _packed(self, key: int) -> bool:
        if not self._filter[(key & (_FILTER_BITS - 1)) >> 3] & (1 << (key & 7)):
            return False
        for run in self._runs:
            at = bisect_left(run, key)
            if at < len(run) and run[at] == key:
                return True
        return False

    def _pack(self) -> None:
        bits = self._filter = self._filter or bytearray(_FILTER_BITS >> 3)
        for key in self._recent:
            bits[(key & (_FILTER_BITS - 1)) >> 3] |= 1 << (key & 7)
        run = array("q", sorted(self._recent))
        self._recent.clear()
        # As in a binary counter: each merge doubles a run, so that a name is merged log(n) times.
        # Long runs are left alone: merging them would take many times their memory for a moment.
        while self._runs and len(self._runs[-1]) <= len(run) <= _LONG:
            run = array("q", sorted([*self._runs.pop(), *run]))
        self._runs.append(run)
