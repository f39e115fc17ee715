"""The users of mounts, counted across threads and processes.

A driver sees one `get` before the first use of a layer and one `put` after the last. This module counts the users in
this process. Each process with users has a shared lock of the kernel's (`RootLocks`), which ends with the process.
Before the driver mounts a layer, a note is written: a file for the layer under `<root>/layerstore/mounts/<driver>`. By
the notes, the mounts of processes that have died are found.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.errors import BadRecord, ConfigError, LayerStoreError, while_doing
from layerstore_core.locking.root_locks import RootLocks
from layerstore_core.log import logger

#: The content of the note of a mount that outlives its process (`keep=True`).
_KEPT: Final = b"kept\n"
#: More bytes than this are never in a note.
_LONGEST: Final = 64
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class MountCounts:
    """The mounts of one driver that an open store uses.

    Args:
        directory: the directory of the notes, `<root>/layerstore/mounts/<driver>`. It is created with the first mount.
        locks: the locks of the root.
        get: the driver's hook `get`.
        put: the driver's hook `put`.
    """

    def __init__(
        self, directory: Path, locks: RootLocks, get: Callable[[str, str], str], put: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._locks = locks
        self._driver_get = get
        self._driver_put = put
        self._users: dict[str, tuple[int, str]] = {}
        self._thread = threading.local()

    def get(self, layer_id: str, mount_label: str, *, keep: bool = False) -> str:
        """Mount a layer, or count one more user of its mount.

        Args:
            mount_label: an SELinux label, `""` for none. The driver sets it, unless the layer is mounted already.
            keep: do not count a user, but leave the layer mounted until `end_kept`.

        Returns:
            The absolute path of the layer's tree.

        Raises:
            ConfigError: the layer is mounted already, and has not got the label.
        """
        with self.changing(layer_id):
            count, path = self._users.get(layer_id, (0, ""))
            if not count:
                new = False
                try:
                    new = self._note(layer_id)
                    self._locks.acquire(_users_key(layer_id), self)
                    path = self._driver_get(layer_id, mount_label)
                    if not new:  # others have it mounted, or had
                        _require_label(layer_id, path, mount_label)
                    if keep:
                        self._keep(layer_id)
                    else:
                        self._users[layer_id] = 1, path
                except BaseException:
                    self._locks.release(_users_key(layer_id), self)
                    if new:
                        self._undo_failed_mount(layer_id)
                    raise
                if keep:
                    self._locks.release(_users_key(layer_id), self)
            else:
                _require_label(layer_id, path, mount_label)
                if keep:
                    self._keep(layer_id)
                else:
                    self._users[layer_id] = count + 1, path
            return path

    def put(self, layer_id: str) -> None:
        """Count one user less. Unmount after the last.

        Do nothing if this store has no user of the mount, or in a forked child.
        """
        if self._locks.inherited:
            return
        with self.changing(layer_id):
            count, path = self._users.get(layer_id, (0, ""))
            if count > 1:
                self._users[layer_id] = count - 1, path
            elif count:
                self._locks.release(_users_key(layer_id), self)
                try:
                    if not self._is_kept(layer_id):
                        self._unmount_unused(layer_id)
                except Exception:  # the driver has refused: do not call it again
                    del self._users[layer_id]
                    raise
                del self._users[layer_id]  # last: after an interruption, `close` unmounts again

    def end_kept(self, layer_id: str) -> bool:
        """End a mount of `get(…, keep=True)`.

        Returns:
            Whether there was such a mount.
        """
        with self.changing(layer_id):
            if not self._is_kept(layer_id):
                return False
            self._write(layer_id, b"")
            self._unmount_unused(layer_id)
            return True

    def kept(self) -> list[str]:
        """Return the layers with a mount of `get(…, keep=True)`, sorted."""
        return [name for name in inside.names(self._directory) if self._is_kept(name)]

    def is_used(self, layer_id: str) -> bool:
        """Return whether this store has users of the layer's mount."""
        return layer_id in self._users

    def is_mounted(self, layer_id: str) -> bool:
        """Return whether any process uses the layer's mount, or it is to stay mounted."""
        return self._locks.is_referenced(_users_key(layer_id)) or self._is_kept(layer_id)

    def remove(self, layer_id: str, remove: Callable[[str], None]) -> None:
        """Call `remove` while no process can mount the layer, and discard its note and its users."""
        with self.changing(layer_id):
            remove(layer_id)
            self._remove_note(layer_id)
            self._locks.release(_users_key(layer_id), self)
            self._users.pop(layer_id, None)

    @contextmanager
    def changing(self, layer_id: str) -> Iterator[None]:
        """Lock the layer for the length of a `with` block: no process mounts, unmounts or removes it."""
        with self._locks.exclusive(_key(layer_id)):
            locked = self._locked_here()
            locked.append(layer_id)
            try:
                yield
            finally:
                locked.remove(layer_id)

    def is_locked_here(self, layer_id: str) -> bool:
        """Return whether this thread has the lock of a layer: it calls a hook that mounts or changes it."""
        return layer_id in self._locked_here()

    def adopt(self, is_ours: Callable[[str], bool]) -> None:
        """Move the notes of earlier versions, which are in the parent directory, to the directory of this driver.

        Args:
            is_ours: returns whether the driver has a layer of an ID. No two drivers have a layer of the same ID.
        """
        shared = self._directory.parent
        drivers = inside.directory_names(shared)
        for name in filter(is_ours, [name for name in inside.names(shared) if name not in drivers]):
            make_directory(self._directory, 0o700)
            with suppress(FileNotFoundError):  # another process was faster
                inside.rename(shared / name, self._directory / name)

    def stale(self) -> list[str]:
        """Return the layers whose mounts are stale, sorted: the processes that used them have died."""
        if not self._locks.writable:
            return []
        return [
            name
            for name in inside.names(self._directory)
            if not self._locks.is_referenced(_users_key(name)) and not self._is_kept(name)
        ]

    def unmount_stale(self, layer_id: str) -> None:
        """Unmount a layer of `stale()`, if its mount is still stale."""
        with self.changing(layer_id):
            if not self._is_kept(layer_id):
                self._unmount_unused(layer_id)

    def close(self) -> None:
        """Release all mounts that this store uses."""
        for layer_id in list(self._users):
            while layer_id in self._users and not self._locks.inherited:
                self.put(layer_id)

    def _locked_here(self) -> list[str]:
        """Return the layers that this thread has locked."""
        locked: list[str] | None = getattr(self._thread, "locked", None)
        if locked is None:
            locked = self._thread.locked = []
        return locked

    def _undo_failed_mount(self, layer_id: str) -> None:
        """Unmount after an error: a wrapper plugin may have failed after the driver had mounted the layer."""
        try:
            self._unmount_unused(layer_id)
        except (OSError, LayerStoreError) as error:
            logger.error("layer {} may still be mounted: it could not be unmounted: {}", layer_id, error)

    def _unmount_unused(self, layer_id: str) -> None:
        if not self._locks.is_referenced(_users_key(layer_id)):
            self._driver_put(layer_id)
            self._remove_note(layer_id)

    def _note(self, layer_id: str) -> bool:
        """Write the note that the layer is mounted. Return whether there was none.

        On a full disk no note is written. So layers can still be read there, with drivers that need no space for a
        mount. If the process then dies, its mount is found when its layer is removed.
        """
        if not self._locks.writable:
            return False
        if inside.exists(self._directory / layer_id):
            return False
        try:
            self._write(layer_id, b"")
        except BaseException as error:
            self._remove_note(layer_id)
            if not isinstance(error, OSError) or error.errno not in _FULL:
                raise
        return True

    def _keep(self, layer_id: str) -> None:
        """Note that the layer's mount is to stay. The disk must have room for that."""
        if self._locks.writable:
            self._write(layer_id, _KEPT)

    def _write(self, layer_id: str, content: bytes) -> None:
        make_directory(self._directory, 0o700)
        path = self._directory / layer_id
        with while_doing(f"noting in {path} that the layer is mounted"):
            inside.write(path, content, 0o644)

    def _remove_note(self, layer_id: str) -> None:
        if self._locks.writable:
            inside.unlink(self._directory / layer_id, missing_ok=True)

    def _is_kept(self, layer_id: str) -> bool:
        # On a root that cannot be written, the notes of earlier versions are still in the parent directory.
        for directory in (self._directory, self._directory.parent):
            try:
                return inside.read(directory / layer_id, _LONGEST) == _KEPT
            except FileNotFoundError:
                continue
            except (BadRecord, OSError) as error:  # the note may say that a user wants the layer mounted
                logger.warning("{}; the layer stays mounted", error)
                return True
        return False


def _require_label(layer_id: str, path: str, mount_label: str) -> None:
    """Refuse a label that the mount of a layer has not got.

    Raises:
        ConfigError: it has another one, or none.
    """
    if mount_label and label_of(path) != mount_label:
        raise ConfigError(
            f"layer {layer_id} is mounted already, without the label {mount_label!r}; leave the mount label out, or "
            "unmount the layer first"
        )


def label_of(path: str) -> str:
    """Return the SELinux label of a file, `""` for none."""
    try:
        return os.getxattr(path, "security.selinux", follow_symlinks=False).rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""


def _key(layer_id: str) -> str:
    return f"driver {layer_id}"


def _users_key(layer_id: str) -> str:
    return f"mounted {layer_id}"
