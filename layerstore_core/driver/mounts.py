"""Counting the users of mounts, across threads and processes.

A driver sees one `get` before the first use of a layer and one `put` after the last. Users within a process are
counted here; each process with users has a hold of the kernel's (`RootLocks`), which ends with it. What is
mounted is written down under `<root>/layerstore/mounts/<driver>`, a file for each layer, before the driver mounts it,
so that mounts of processes that have died are found.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.errors import BadRecord, LayerStoreError, while_doing
from layerstore_core.locking.root_locks import RootLocks
from layerstore_core.log import logger

#: What the file of a mount holds that is to outlive the process which made it.
_KEPT: Final = b"kept\n"
_LONGEST: Final = 64
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class MountCounts:
    """The mounts of one driver that an open store uses.

    Args:
        directory: `<root>/layerstore/mounts/<driver>`, made with the first mount.
        locks: the locks of the root.
        get: the driver's hook.
        put: the driver's hook.
    """

    def __init__(
        self, directory: Path, locks: RootLocks, get: Callable[[str, str], str], put: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._locks = locks
        self._driver_get = get
        self._driver_put = put
        self._users: dict[str, tuple[int, str]] = {}

    def get(self, layer_id: str, mount_label: str, *, keep: bool = False) -> str:
        """Mount a layer, or count one more user of its mount.

        Args:
            keep: let it stay mounted, without a user, until `let_go`.

        Returns:
            The absolute path of its tree.
        """
        with self._locks.exclusive(_key(layer_id)):
            count, path = self._users.get(layer_id, (0, ""))
            if not count:
                noted = False
                try:
                    noted = self._note(layer_id, keep=keep)
                    self._locks.acquire(_held(layer_id), self)
                    path = self._driver_get(layer_id, mount_label)
                    if not keep:
                        self._users[layer_id] = 1, path
                except BaseException:
                    self._locks.release(_held(layer_id), self)
                    if noted:
                        self._undo(layer_id)
                    raise
                if keep:
                    self._locks.release(_held(layer_id), self)
            elif keep:
                self._note(layer_id, keep=True)
            else:
                self._users[layer_id] = count + 1, path
            return path

    def put(self, layer_id: str) -> None:
        """Count one user less; unmount after the last. Without a user of this store nothing happens, nor in a forked child."""
        if self._locks.inherited:
            return
        with self._locks.exclusive(_key(layer_id)):
            count, path = self._users.get(layer_id, (0, ""))
            if count > 1:
                self._users[layer_id] = count - 1, path
            elif count:
                self._locks.release(_held(layer_id), self)
                try:
                    if not self._is_kept(layer_id):
                        self._unmount_unused(layer_id)
                except Exception:  # the driver has refused, and is not asked again
                    del self._users[layer_id]
                    raise
                del self._users[layer_id]  # last: what was interrupted, `close` does again

    def let_go(self, layer_id: str) -> bool:
        """End what `get(…, keep=True)` began.

        Returns:
            Whether the mount was one that is kept.
        """
        with self._locks.exclusive(_key(layer_id)):
            if not self._is_kept(layer_id):
                return False
            self._write(layer_id, b"")
            self._unmount_unused(layer_id)
            return True

    def is_used(self, layer_id: str) -> bool:
        """Whether this store has users of the layer's mount."""
        return layer_id in self._users

    def remove(self, layer_id: str, remove: Callable[[str], None]) -> None:
        """Call `remove`, with nobody mounting the layer meanwhile, and forget its mount."""
        with self._locks.exclusive(_key(layer_id)):
            remove(layer_id)
            self._forget(layer_id)
            self._locks.release(_held(layer_id), self)
            self._users.pop(layer_id, None)

    @contextmanager
    def changing(self, layer_id: str) -> Iterator[None]:
        """A block in which no process mounts, unmounts or removes the layer."""
        with self._locks.exclusive(_key(layer_id)):
            yield

    def adopt(self, is_ours: Callable[[str], bool]) -> None:
        """Take the notes of earlier versions, which stand in the directory above, to those of this driver.

        Args:
            is_ours: whether the driver has a layer; no two drivers have one of the same ID.
        """
        shared = self._directory.parent
        drivers = inside.directory_names(shared)
        for name in filter(is_ours, [name for name in inside.names(shared) if name not in drivers]):
            make_directory(self._directory, 0o700)
            with suppress(FileNotFoundError):  # another process was faster
                inside.rename(shared / name, self._directory / name)

    def abandoned(self) -> list[str]:
        """The layers that were mounted by processes that have died, sorted."""
        if not self._locks.writable:
            return []
        return [
            name
            for name in inside.names(self._directory)
            if not self._locks.is_referenced(_held(name)) and not self._is_kept(name)
        ]

    def unmount_abandoned(self, layer_id: str) -> None:
        """Unmount one of `abandoned()`, if it still is."""
        with self._locks.exclusive(_key(layer_id)):
            if not self._is_kept(layer_id):
                self._unmount_unused(layer_id)

    def close(self) -> None:
        """Give back all that this store uses."""
        for layer_id in list(self._users):
            while layer_id in self._users and not self._locks.inherited:
                self.put(layer_id)

    def _undo(self, layer_id: str) -> None:
        """End a mount that has failed; what stands around the driver may have failed after the driver had mounted."""
        try:
            self._unmount_unused(layer_id)
        except (OSError, LayerStoreError) as error:
            logger.error("layer {} may still be mounted: it could not be unmounted: {}", layer_id, error)

    def _unmount_unused(self, layer_id: str) -> None:
        if not self._locks.is_referenced(_held(layer_id)):
            self._driver_put(layer_id)
            self._forget(layer_id)

    def _note(self, layer_id: str, *, keep: bool) -> bool:
        """Write down that the layer is mounted; returns whether that is new.

        On a full disk nothing is written: what is there can still be read, from drivers that need no room for that,
        and the mount of a process that dies meanwhile is found when its layer is removed.
        """
        if not self._locks.writable:
            return False
        new = not inside.exists(self._directory / layer_id)
        if new or keep:
            try:
                self._write(layer_id, _KEPT if keep else b"")
            except BaseException as error:
                if new:
                    self._forget(layer_id)
                if keep or not isinstance(error, OSError) or error.errno not in _FULL:
                    raise
                return False
        return new

    def _write(self, layer_id: str, content: bytes) -> None:
        make_directory(self._directory, 0o700)
        path = self._directory / layer_id
        with while_doing(f"noting in {path} that the layer is mounted"):
            inside.write(path, content, 0o644)

    def _forget(self, layer_id: str) -> None:
        if self._locks.writable:
            inside.unlink(self._directory / layer_id, missing_ok=True)

    def _is_kept(self, layer_id: str) -> bool:
        # Where nothing can be written, notes of earlier versions are where they were.
        for directory in (self._directory, self._directory.parent):
            try:
                return inside.read(directory / layer_id, _LONGEST) == _KEPT
            except FileNotFoundError:
                continue
            except (BadRecord, OSError) as error:  # it may say that somebody wants it mounted
                logger.warning("{}; the layer stays mounted", error)
                return True
        return False


def _key(layer_id: str) -> str:
    return f"driver {layer_id}"


def _held(layer_id: str) -> str:
    return f"mounted {layer_id}"
