"""Comparison of two trees: by the kernel in C in several threads, where no touched paths are known."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from layerstore_core.base.kernels import engine
from layerstore_core.diff.change import Change, ChangeKind, TouchedPaths
from layerstore_core.diff.compare import Comparison
from layerstore_core.diff.stamps import Stamps
from layerstore_core.diff.tasks import Directory, Name
from layerstore_core.tree.share import share
from layerstore_core.tree.xattrs import same_xattrs

if TYPE_CHECKING:
    from types import ModuleType

    from layerstore_core.tree.walk import TreeWalk

#: The kinds of the kernel's notes: see `native/src/compare.h`.
_NAME, _OTHER, _NEW, _SAME, _LEFT, _UNTOUCHED = b"nouslt"
_KINDS: Final = {ord(kind.value): kind for kind in ChangeKind}
_INODES: Final = struct.Struct("=5Q")


def compare_trees(
    upper: str | os.PathLike[str],
    lower: str | os.PathLike[str] | None,
    *,
    touched: TouchedPaths | None = None,
    stamps: Stamps | None = None,
    root_owner: tuple[int, int] | None = None,
) -> list[Change]:
    """Return the changes that make `lower` into `upper`, sorted by path.

    An added directory is reported with everything in it. A deleted directory is reported alone. The root is reported
    only if its own mode, owner or attributes differ. Against an empty tree it is compared with the root of a new base
    layer: mode 0755, no attributes, `root_owner`.

    Args:
        upper: the changed tree. A file that vanishes from it meanwhile counts as deleted.
        lower: the tree that `upper` was made from; `None` for an empty one: then everything is added.
        touched: the paths of `upper` that may differ from `lower`. `upper` is a snapshot of `lower` then, on a file
            system that keeps inode numbers in snapshots. Nothing else is looked at. `None`: unknown.
        stamps: the stamps of `upper`, from a time when it was equal to `lower`, which has not changed since. Files that
            still have their stamps are not read. `None`: unknown; files of equal status are then compared by content,
            unless they are the same inode.
        root_owner: user and group of an empty tree's root on this host; `None`: the caller's.

    Raises:
        OSError: something cannot be read; the error names the path.
    """
    kernels = engine().kernels
    with Comparison(upper, lower, touched, stamps, root_owner) as comparison:
        waiting = [comparison.compare_roots()]
        if kernels is not None and comparison.is_for_kernel:
            _compare_in_threads(comparison, waiting, kernels)
        while waiting:
            waiting += comparison.compare(waiting.pop())
        return comparison.finish()


class _Compared:
    """What a thread has found, and what it has left to be done.

    Attributes:
        found: the differences, by path.
        names: the names of hard-linked files.
        left: directories to be compared.
        others: paths that `Comparison` has to compare, and likewise directories.
        failed: directories that `Comparison` has to compare.
    """

    def __init__(self) -> None:
        self.found: dict[bytes, ChangeKind] = {}
        self.names: list[Name] = []
        self.left: list[Directory] = []
        self.others: list[bytes] = []
        self.failed: list[Directory] = []

    def add(self, notes: list[tuple[int, bytes, bytes]]) -> None:
        """Add the notes of the kernel."""
        for kind, path, more in notes:
            if kind in _KINDS:
                self.found[b"/" + path] = _KINDS[kind]
            elif kind == _NAME:
                device, inode, *lower, in_lower = _INODES.unpack(more)
                self.names.append(Name(b"/" + path, (device, inode), (lower[0], lower[1]) if in_lower else None))
            elif kind == _OTHER:
                self.others.append(path)
            elif kind == _NEW:
                self.failed.append(Directory(path, in_lower=False, untouched=False))
            else:
                self.left.append(Directory(path, in_lower=True, untouched=kind == _UNTOUCHED, unread=kind == _LEFT))


class _Part:
    """One thread's part of a comparison.

    Args:
        walks: the upper and the lower tree, for this part alone.
        device: the device of the upper tree's root.
        stamps: the stamps of the upper tree, for the kernel.
        kernels: the kernels.
        stop: ends the kernel's work.
    """

    def __init__(self, walks: list[TreeWalk], device: int, stamps: bytes, kernels: ModuleType, stop: bytearray) -> None:
        self._upper, self._lower = walks
        self._device = device
        self._stamps = stamps
        self._kernels = kernels
        self._stop = stop

    def compare(self, directories: list[Directory], names: int) -> _Compared:
        """Compare directories that are in both trees, and what is below, until about so many names; see `share`."""
        compared = _Compared()
        while directories and names and not self._stop[0]:
            directory = directories.pop()
            try:
                names = self._compare(directory, names, compared)
            except OSError:
                compared.failed.append(directory)  # and `Comparison` says what is wrong with it
        compared.left += directories
        return compared

    def _compare(self, directory: Directory, names: int, compared: _Compared) -> int:
        path = directory.path
        upper, lower = self._upper.enter(path), self._lower.enter(path)
        changed = directory.unread and not same_xattrs(upper, lower)
        notes, names = self._kernels.compare_directory(
            upper, lower, names, self._stop, path, self._stamps, self._device, directory.untouched
        )
        compared.add(notes)
        if changed:
            compared.found[b"/" + path] = ChangeKind.MODIFY
        return names


def _compare_in_threads(comparison: Comparison, waiting: list[Directory], kernels: ModuleType) -> None:
    """Compare all directories that are waiting, and all below them; `comparison` does what the kernel leaves."""

    def take(compared: _Compared) -> list[Directory]:
        comparison.found.update(compared.found)
        comparison.names += compared.names
        new, left = compared.failed, compared.left
        for path in compared.others:
            new += comparison.compare_path(path)
        while new:
            for directory in comparison.compare(new.pop()):
                (left if directory.in_lower else new).append(directory)
        return left

    stop = bytearray(1)
    stamps = comparison.stamps.for_kernel(kernels) if comparison.stamps is not None else b""

    def new_part() -> Callable[[list[Directory], int], _Compared]:
        walks = [stack.enter_context(walk) for walk in comparison.walks()]
        return _Part(walks, comparison.device, stamps, kernels, stop).compare

    with ExitStack() as stack:
        share(waiting, new_part, take, stop)
