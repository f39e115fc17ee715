"""The notes of read-only mounts of layers, which keep the layers.

::

    <root>/layerstore/trees/<driver>/<chain hex>/
        <name>.json     the note of one mount: where it is, and how to recognise it
        <name>/         the mount point, where none was given

The note is written before the mount is made and removed after it has ended. So no process that is killed leaves a mount
without a note.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from layerstore_core.base import inside
from layerstore_core.base.atomic import FILE_MODE, make_directory
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import BadRecord
from layerstore_core.records.own_state import state_directory

_HEX: Final = r"[0-9a-f]{64}"
_NAME: Final = r"([0-9a-f]{16})\.json"
_LONGEST: Final = 1 << 16
#: The inode of the first namespace of process IDs: `PROC_PID_INIT_INO` in Linux, `include/linux/proc_ns.h`.
_FIRST_PID_NAMESPACE: Final = 0xEFFFFFFC


class TreeMount(NamedTuple):
    """The note of a read-only mount.

    Attributes:
        chain_id: the layer.
        name: the name of the note, 16 hex digits.
        target: the path of the mount point; `""` if the note is damaged: then it was never mounted.
        kept: whether it stays when its process ends.
        mount_id: the kernel's ID of the mount; `None` until it is made.
        namespace: the mount namespace that it is in.
        boot: the ID of the boot of the machine.
    """

    chain_id: ChainID
    name: str
    target: str
    kept: bool
    mount_id: int | None = None
    namespace: int = 0
    boot: str = ""

    @property
    def lock_key(self) -> str:
        """The key of `RootLocks` to which the process refers that makes or uses the mount."""
        return f"tree {self.name}"

    @property
    def has_own_point(self) -> bool:
        """Whether the mount point is the one that was made for it, below the store's root."""
        return self.target.endswith(f"/{self.chain_id.hex}/{self.name}")

    @property
    def is_here(self) -> bool:
        """Whether the mount is, or was, in this process's mount namespace."""
        return (self.namespace, self.boot) == here()

    def may_be_elsewhere(self) -> bool:
        """Return whether the mount may exist in another mount namespace of this boot."""
        namespace, boot = here()
        if not self.target or self.mount_id is None or self.boot != boot or self.namespace == namespace:
            return False
        if os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE:
            return True  # not all processes can be seen
        return any(_namespace_of(entry) == self.namespace for entry in os.listdir("/proc") if entry.isdigit())


class TreeMounts:
    """The notes of one driver's layers; a source of references for the catalog.

    Args:
        root: the store's directory.
        driver: the driver's name on disk.
    """

    def __init__(self, root: Path, driver: str) -> None:
        self._directory = state_directory(root, "trees", driver)

    def mount_point(self, mount: TreeMount) -> Path:
        """Return the mount point of a mount for which none was given."""
        return self._directory / mount.chain_id.hex / mount.name

    def all(self) -> list[TreeMount]:
        """Return all notes, by layer."""
        return [
            mount
            for name in inside.names(self._directory)
            if re.fullmatch(_HEX, name)
            for mount in self.of(ChainID.trusted(f"sha256:{name}"))
        ]

    def of(self, chain: ChainID) -> list[TreeMount]:
        """Return the notes of a layer."""
        return list(self._read(chain))

    def write(self, mount: TreeMount) -> None:
        """Write a note, or write it again."""
        directory = self._directory / mount.chain_id.hex
        make_directory(directory, 0o700)
        import json  # lazy: few layers are mounted read-only

        document = {key: value for key, value in mount._asdict().items() if key not in ("chain_id", "name")}
        inside.write(directory / f"{mount.name}.json", json.dumps(document).encode(), FILE_MODE)

    def remove(self, mount: TreeMount) -> None:
        """Remove a note, and the mount point that was made for it."""
        directory = self._directory / mount.chain_id.hex
        for path in (self.mount_point(mount), None, directory):
            try:
                if path is None:
                    inside.unlink(directory / f"{mount.name}.json", missing_ok=True)
                else:
                    inside.rmdir(path)
            except FileNotFoundError:
                continue
            except OSError:
                if path != directory:  # that may have other notes
                    raise

    def tidy(self) -> None:
        """Remove directories of layers in which no note is left."""
        for name in inside.names(self._directory):
            try:
                inside.rmdir(self._directory / name)
            except (BadRecord, OSError):
                continue

    def references_to(self, chain: ChainID) -> list[str]:
        """Return the mounts of a layer, in words."""
        try:
            if not inside.exists(self._directory / chain.hex):
                return []
            return [f"the mount at {mount.target or '?'}" for mount in self.of(chain)]
        except (BadRecord, OSError) as error:
            return [f"perhaps a mount, whose note cannot be read: {error}"]

    def all_references(self) -> Collection[ChainID]:
        """Return all layers that may be mounted; see `ReferenceSource`."""
        return {mount.chain_id for mount in self.all()}

    def unreadable(self) -> list[BadRecord]:
        """Return the directory of the notes if it cannot be searched: there may be mounts of any layer."""
        try:
            inside.exists(self._directory / "any")
        except BadRecord as error:
            return [error]
        except OSError as error:
            return [BadRecord(self._directory, f"the notes of mounts cannot be read: {error.strerror}")]
        return []

    def _read(self, chain: ChainID) -> Iterator[TreeMount]:
        directory = self._directory / chain.hex
        for entry in inside.names(directory):
            if match := re.fullmatch(_NAME, entry):
                import json

                try:
                    document = json.loads(inside.read(directory / entry, _LONGEST))
                    yield _parsed(chain, match[1], document)
                except FileNotFoundError:  # it has just ended
                    continue
                except (ValueError, RecursionError, KeyError, TypeError):
                    yield TreeMount(chain, match[1], "", kept=False)


def _parsed(chain: ChainID, name: str, document: Any) -> TreeMount:
    target, kept, mount_id = document["target"], document["kept"], document["mount_id"]
    namespace, boot = document["namespace"], document["boot"]
    right = (
        isinstance(target, str) and os.path.isabs(target) and "\0" not in target and isinstance(kept, bool),
        mount_id is None or type(mount_id) is int,
        type(namespace) is int and isinstance(boot, str),
    )
    if not all(right):
        raise ValueError("not the note of a mount")
    return TreeMount(chain, name, target, kept, mount_id, namespace, boot)


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def here() -> tuple[int, str]:
    """Return this process's mount namespace, and the ID of the boot."""
    return os.stat("/proc/self/ns/mnt").st_ino, _boot()


def _namespace_of(process: str) -> int | None:
    try:
        return os.stat(f"/proc/{process}/ns/mnt").st_ino
    except OSError:
        return None
