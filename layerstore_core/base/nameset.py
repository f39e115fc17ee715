"""A set of names that needs little memory, even for many names."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, Protocol

from layerstore_core.base.kernels import engine

#: The number of hashes in the Python set at which they are packed into an array.
_RECENT: Final = 1 << 17
#: Arrays with more hashes than this are not merged any more.
_LONG: Final = 1 << 19
#: The number of bits of the filter. With a million names in the arrays, one new name in nine is searched in vain.
_FILTER_BITS: Final = 1 << 23


class Paths(Protocol):
    """Entries with cleaned names: a run, see `layerstore_core.tar.run.Run`."""

    def __len__(self) -> int: ...
    def path(self, index: int, /) -> bytes: ...
    def payload(self, index: int, /) -> memoryview: ...


class NameSet(Protocol):
    """A set of names: the kernels' `Names`, or `SeenNames`, its twin in Python. Use it in one thread at a time."""

    def add(self, name: bytes, /) -> bool:
        """Add a name; return `False` if it was in the set already."""

    def update(self, names: Iterable[bytes], /) -> None:
        """Add names, whether they are new or not."""

    def add_run(self, run: Paths, /) -> bool:
        """Add the paths of a run if all are new; add none and return `False` if one is in the set, or twice in it."""

    def add_empty(self, run: Paths, /) -> None:
        """Add the paths of the entries of a run that have no payload, whether they are new or not."""

    def __contains__(self, name: bytes, /) -> bool: ...

    def __len__(self) -> int: ...


def seen_names() -> NameSet:
    """Return an empty set of names, of the kernels where they are used."""
    kernels = engine().kernels
    if kernels is None:
        return SeenNames()
    names: NameSet = kernels.Names()
    return names


class SeenNames:
    """A set of names that needs 8 bytes for each name, except for the latest names.

    It stores the 64-bit hashes of the names: the latest in a Python set, the others in sorted arrays. Short arrays are
    merged, so that there are few. Python's hash of bytes has a random key in each process, so an attacker cannot
    prepare two names with the same hash. By chance, the probability is one in 2^64 for a pair.

    A filter has one bit for each hash. It saves the search through the arrays for nearly all new names, so that the
    cost of a name does not grow with the number of names.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._arrays: list[array[int]] = []
        self._filter = bytearray()

    def add(self, name: bytes) -> bool:
        """Add a name; return `False` if it was in the set already."""
        key = hash(name)
        recent = self._recent
        if key in recent or (self._arrays and self._packed(key)):
            return False
        recent.add(key)
        if len(recent) >= _RECENT:
            self._pack()
        return True

    def add_run(self, run: Paths) -> bool:
        """Add the paths of a run if all are new; add none and return `False` if one is in the set, or twice in it."""
        paths = {run.path(number) for number in range(len(run))}
        if len(paths) < len(run) or any(path in self for path in paths):
            return False
        self.update(paths)
        return True

    def add_empty(self, run: Paths) -> None:
        """Add the paths of the entries of a run that have no payload, whether they are new or not."""
        self.update(run.path(number) for number in range(len(run)) if not run.payload(number))

    def update(self, names: Iterable[bytes]) -> None:
        """Add names, whether they are new or not."""
        for name in names:
            self.add(name)

    def __contains__(self, name: bytes) -> bool:
        key = hash(name)
        return key in self._recent or (bool(self._arrays) and self._packed(key))

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._arrays))

    def _packed(self, key: int) -> bool:
        """Return whether a hash is in one of the arrays."""
        if not self._filter[(key & (_FILTER_BITS - 1)) >> 3] & (1 << (key & 7)):
            return False
        for hashes in self._arrays:
            at = bisect_left(hashes, key)
            if at < len(hashes) and hashes[at] == key:
                return True
        return False

    def _pack(self) -> None:
        """Move the hashes of the set into a sorted array, and into the filter."""
        bits = self._filter = self._filter or bytearray(_FILTER_BITS >> 3)
        for key in self._recent:
            bits[(key & (_FILTER_BITS - 1)) >> 3] |= 1 << (key & 7)
        packed = array("q", sorted(self._recent))
        self._recent.clear()
        # As in a binary counter: each merge doubles an array, so a name is merged log(n) times.
        # Long arrays are not merged: that would need many times their memory for a moment.
        while self._arrays and len(self._arrays[-1]) <= len(packed) <= _LONG:
            packed = array("q", sorted([*self._arrays.pop(), *packed]))
        self._arrays.append(packed)
