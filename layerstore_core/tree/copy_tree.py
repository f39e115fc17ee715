"""Copy of a whole tree: by the kernel in C in several threads where it is installed, else by `Copier` alone."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from layerstore_core.base.descriptors import open_fd
from layerstore_core.base.kernels import engine
from layerstore_core.log import logger
from layerstore_core.tree.access_lists import remove_access_lists
from layerstore_core.tree.copy import NEW_FILE, Copier, Defaults
from layerstore_core.tree.share import share
from layerstore_core.tree.walk import TreeWalk

if TYPE_CHECKING:
    from types import ModuleType

#: The kinds of the kernel's notes: see `native/src/copy.h`.
_LEFT, _OTHER, _OPEN, _INACCESSIBLE = b"lomi"
#: How the kernel may copy content, until it has found that the file system does not support it: see there.
_ALL_WAYS: Final = 3


def copy_tree(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy everything in the directory `source`, and its own metadata, into the empty directory `target`.

    Content is shared (reflinked) if the file system can do that, else copied by the kernel. Without the rights of root,
    owners, devices and privileged attributes are left out, and one warning says so.

    Raises:
        OSError: something cannot be read or made. The target is then incomplete, and the caller has to remove it.
    """
    kernels = engine().kernels
    with TreeWalk(source) as here, TreeWalk(target) as there:
        defaults = learn_defaults(there.fd)
        copier = Copier(here, there, defaults)
        waiting = [b""]
        if kernels is not None:
            _copy_in_threads(copier, waiting, [here, there], defaults, kernels)
        while waiting:
            waiting += copier.copy(waiting.pop())
        copier.finish()
    warn_of_left_out(copier, here, there)


def warn_of_left_out(copier: Copier, source: TreeWalk, target: TreeWalk) -> None:
    """Log a warning for each kind of thing that a copy lacks for want of rights."""
    for what, count in copier.left_out.items():
        logger.warning(
            "{}: left out of the copy of {}, because this process lacks the rights: {} ({} times)",
            os.fsdecode(target.root),
            os.fsdecode(source.root),
            what,
            count,
        )


class _Copied:
    """What a thread has left to be done.

    Attributes:
        left: directories that are made, and empty.
        others: names by directory. The directory's metadata is not applied before these are copied.
        inaccessible: as of `Copier`.
    """

    def __init__(self) -> None:
        self.left: list[bytes] = []
        self.others: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self.inaccessible: list[bytes] = []

    def add(self, path: bytes, notes: list[tuple[int, bytes, bytes]]) -> None:
        """Add the notes of the kernel about the directory `path`, and what is below it."""
        for kind, below, _ in notes:
            found = path + b"/" + below if path and below else path or below
            if kind == _LEFT:
                self.left.append(found)
            elif kind == _INACCESSIBLE:
                self.inaccessible.append(found)
            elif kind == _OPEN:
                self.others[found]
            elif kind == _OTHER:
                directory, _, name = found.rpartition(b"/")
                self.others[directory].append(name)


class _Part:
    """One thread's part of a copy.

    Args:
        walks: the source and the target, for this part alone.
        defaults: the mode and owner of new files.
        kernels: the kernels.
        stop: ends the kernel's work.
    """

    def __init__(self, walks: list[TreeWalk], defaults: Defaults, kernels: ModuleType, stop: bytearray) -> None:
        self._source, self._target = walks
        self._defaults = defaults
        self._kernels = kernels
        self._stop = stop
        self._ways = _ALL_WAYS

    def copy(self, paths: list[bytes], names: int) -> _Copied:
        """Copy directories with all that is below, until about so many names were copied; see `share`."""
        copied = _Copied()
        while paths and names and not self._stop[0]:
            path = paths.pop()
            source, target = self._source.enter(path), self._target.enter(path)
            try:
                (notes, names), self._ways = self._kernels.copy_directory(
                    source, target, self._defaults.masked, *self._defaults.owner, self._ways, names, self._stop
                )
            except OSError as error:
                # It names a path relative to this directory.
                error.filename = self._source.absolute(error.filename)
                error.add_note(f"while copying it to {os.fsdecode(self._target.root)}")
                raise
            copied.add(path, notes)
        copied.left += paths
        return copied


def _copy_in_threads(
    copier: Copier, waiting: list[bytes], walks: list[TreeWalk], defaults: Defaults, kernels: ModuleType
) -> None:
    """Copy all directories that are waiting, and all below them; `copier` does what the kernel leaves."""

    def take(copied: _Copied) -> list[bytes]:
        copier.inaccessible += copied.inaccessible
        left = copied.left
        for path, names in copied.others.items():
            left += copier.copy_names(path, names)
        return left

    stop = bytearray(1)
    with ExitStack() as stack:
        share(
            waiting,
            lambda: _Part([stack.enter_context(walk.again()) for walk in walks], defaults, kernels, stop).copy,
            take,
            stop,
        )


def learn_defaults(fd: int) -> Defaults:
    """Find out which mode and owner a new file gets in the target, an empty directory. Make it inherit nothing."""
    remove_access_lists(fd)
    os.fchmod(fd, 0o700)
    name = b".layerstore-copy"
    probe = open_fd(name, NEW_FILE, 0o777, dir_fd=fd)
    try:
        status = os.fstat(probe)
    finally:
        os.close(probe)
        os.unlink(name, dir_fd=fd)
    return Defaults(0o7000 | (0o777 & ~status.st_mode), (status.st_uid, status.st_gid))
