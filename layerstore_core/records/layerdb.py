"""The layerdb: the records of all layers and writable layers of one driver, in Docker's format.

::

    <layerdb>/                          0700
        sha256/<chain hex>/             a layer's record
        sha256/<chain hex>-<random>-removing/
                                        a deletion under way: the driver's part may or may not be gone
        mounts/<name>/                  a writable layer's record
        tmp/write-set-<random>/         a transaction

Opening and reading write nothing, so that a store on read-only media can be read.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal

from layerstore_core.base import inside
from layerstore_core.base.digests import ChainID
from layerstore_core.errors import while_doing
from layerstore_core.records.deletion import Deletion, InterruptedDeletion
from layerstore_core.records.layer_record import (
    CACHE_ID,
    MOUNT_ID,
    LayerRecord,
    MountRecord,
    check_mount_name,
    read_digest,
    read_driver_id,
)
from layerstore_core.records.transaction import (
    OF_RECORDS,
    TAR_SPLIT,
    StaleTransaction,
    Transaction,
    WriteSet,
    live_driver_ids,
    removing_stale,
    stale_transactions,
    try_lock,
)

_LAYER: Final = r"[0-9a-f]{64}"
_REMOVING: Final = r"[0-9a-f]{64}-.+-removing"
_ANY: Final = r"(?s).*"


class LayerDB:
    """The records under one directory.

    Args:
        path: the directory, `<root>/image/<driver>/layerdb`; it is created when something is written.
        durability: `"full"`: what a call has written is on disk when it returns; `"none"`: some time later.
    """

    def __init__(self, path: Path, *, durability: Literal["full", "none"] = "full") -> None:
        self.path = path
        self._durable = durability == "full"

    def missing_directories(self) -> list[Path]:
        """Return the directories for records that are missing: the first record creates all, but not with Docker."""
        return [path for path in self.directories() if not inside.is_directory(path)]

    def directories(self) -> list[Path]:
        """Return the directories for records, whether they exist or not."""
        return [self.path / name for name in OF_RECORDS]

    # Layers

    def list_layers(self) -> list[ChainID]:
        """Return the chain IDs of all records, sound or not, sorted."""
        return [ChainID.trusted(f"sha256:{name}") for name in _names(self.path / "sha256", wanted=_LAYER)]

    def unexpected_entries(self) -> list[Path]:
        """Return the directories among the layers that are no records, sorted."""
        layers = self.path / "sha256"
        return [layers / name for name in _names(layers) if not re.fullmatch(f"{_LAYER}|{_REMOVING}", name)]

    def displaced(self) -> list[Path]:
        """Return the entries in the place of a record that are no directory, sorted: the record may be needed."""
        found: list[Path] = []
        for directory, wanted in (self.path / "sha256", _LAYER), (self.path / "mounts", _ANY):
            names = [name for name in inside.names(directory) if re.fullmatch(wanted, name)]
            records = set(_names(directory))  # after `names`: an entry that is no directory by now may be gone
            found += [directory / name for name in names if name not in records and inside.exists(directory / name)]
        return found

    def layer_path(self, chain: ChainID) -> Path:
        """Return the path of a layer's record, whether it exists or not."""
        return self.path / "sha256" / chain.hex

    def has_layer(self, chain: ChainID) -> bool:
        """Return whether there is a record, sound or not. An empty directory is none: a new record may replace it."""
        return inside.has_entries(self.layer_path(chain))

    def read(self, chain: ChainID) -> LayerRecord:
        """Read a layer's record.

        Raises:
            BadRecord: it is damaged; the error names the file.
            OSError: it cannot be read.
        """
        return LayerRecord.read(self.layer_path(chain), chain)

    @contextmanager
    def reading_many(self, names: Sequence[ChainID] = ()) -> Iterator[Callable[[ChainID], LayerRecord]]:
        """Open the directory of layers for a block that reads the records of many.

        Args:
            names: the layers that will be read, as far as is known. They are read at once.

        Yields:
            A function that does the same as `read`, quickly.
        """
        try:
            opened = inside.open_directory(self.path / "sha256")
        except FileNotFoundError:
            yield self.read
            return
        with opened as layers:
            found = LayerRecord.read_usual_ones(layers, names) if len(names) > 1 else {}
            yield lambda chain: found.pop(chain, None) or LayerRecord.read_usual(layers, chain) or self.read(chain)

    def open_tar_split(self, chain: ChainID) -> BinaryIO:
        """Open a layer's tar-split lines, compressed.

        Raises:
            FileNotFoundError: it has none.
        """
        return open(self.layer_path(chain) / TAR_SPLIT, "rb", opener=inside.opener)

    def has_tar_split(self, chain: ChainID) -> bool:
        """Return whether a layer has tar-split lines."""
        return inside.exists(self.layer_path(chain) / TAR_SPLIT)

    def cache_id(self, chain: ChainID) -> str | None:
        """Return the driver's ID for a layer, alone and quickly; `None` where it cannot be read."""
        return read_driver_id(self.layer_path(chain) / CACHE_ID)

    def begin(self, cache_id: str) -> Transaction:
        """Begin a new layer's record. From now on it is on disk that the driver may have `cache_id`."""
        with while_doing(f"starting a transaction in {self.path}"):
            return Transaction(self.path, cache_id, durable=self._durable)

    def transactions(self) -> list[Path]:
        """Return the directories of all transactions, of running processes and of others, sorted."""
        return [self.path / "tmp" / name for name in _names(self.path / "tmp")]

    def stale_transactions(self) -> list[StaleTransaction]:
        """Return the transactions of processes that have ended, sorted."""
        return stale_transactions(self.path)

    def live_driver_ids(self) -> list[str]:
        """Return the driver's IDs in transactions of processes that are alive."""
        return live_driver_ids(self.path)

    def removing_stale(self, stale: StaleTransaction) -> AbstractContextManager[bool]:
        """Lock a stale transaction for a block, and then remove it; see the function `removing_stale`."""
        return removing_stale(stale)

    # Deletion

    def begin_deletion(self, chain: ChainID) -> Deletion:
        """Begin a deletion: from now on the layer does not exist.

        Raises:
            OSError: the record cannot be renamed, or not durably; the layer is as it was.
        """
        source = self.layer_path(chain)
        target = source.with_name(f"{chain.hex}-{os.urandom(8).hex()}-removing")
        with while_doing(f"deleting layer {chain}"):
            # Locked before it is moved: under its new name other processes would take it for an interrupted deletion.
            lock = try_lock(source, wait=True)
            if lock is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
            try:
                inside.rename(source, target)
                if self._durable:
                    inside.flush(target.parent)
            except BaseException:
                if not inside.exists(source):
                    inside.rename(target, source)
                lock.close()
                raise
        return Deletion(target, lock)

    def resume_deletion(self, deletion: InterruptedDeletion) -> Deletion | None:
        """Resume an interrupted deletion; return `None` where another process is at work on it, or it is gone."""
        lock = try_lock(deletion.path)
        return None if lock is None else Deletion(deletion.path, lock)

    def interrupted_deletions(self) -> list[InterruptedDeletion]:
        """Return the deletions that have begun and on which no process is at work, sorted."""
        found = []
        for path, chain in self._deletions():
            lock = try_lock(path)
            if lock is not None:
                lock.close()
                found.append(InterruptedDeletion(path, chain, read_driver_id(path / CACHE_ID)))
        return found

    def deletions(self) -> list[Path]:
        """Return what is left of the records of all layers in deletion, by running processes or ended ones."""
        return [path for path, _ in self._deletions()]

    def parents_of_deletions(self) -> dict[Path, ChainID | None]:
        """Return the parents of all layers in deletion, by the path of what is left; `None` for an unreadable one."""
        found = {}
        for path in self.deletions():
            parent = read_digest(ChainID, path / "parent")
            if parent is not None or os.path.lexists(path / "parent"):
                found[path] = parent
        return found

    def _deletions(self) -> Iterator[tuple[Path, ChainID]]:
        for name in _names(self.path / "sha256", wanted=_REMOVING):
            yield self.path / "sha256" / name, ChainID.from_hex(name[:64])

    # Writable layers

    def mount_path(self, name: str) -> Path:
        """Return the path of a writable layer's record, whether it exists or not.

        Raises:
            InvalidMountName: a writable layer cannot have this name.
        """
        check_mount_name(name)
        return self.path / "mounts" / name

    def list_mounts(self) -> list[str]:
        """Return the names of all writable layers, with sound records or not, sorted."""
        return _names(self.path / "mounts")

    def has_mount(self, name: str) -> bool:
        """Return whether there is a record, sound or not; as `has_layer`."""
        return inside.has_entries(self.mount_path(name))

    def read_mount(self, name: str) -> MountRecord:
        """Read a writable layer's record.

        Raises:
            BadRecord: it is damaged; the error names the file.
            OSError: it cannot be read.
        """
        return MountRecord.read(self.mount_path(name), name)

    def mount_id(self, name: str) -> str | None:
        """Return the driver's ID for a writable layer, alone and quickly; `None` where it cannot be read."""
        return read_driver_id(self.mount_path(name) / MOUNT_ID)

    def begin_mount(self, record: MountRecord) -> WriteSet:
        """Begin a writable layer's record. From now on it is on disk that the driver may have its IDs.

        Returns:
            The record, for `publish(mount_path(name))`; a context manager that cancels what was not published.

        Raises:
            OSError: it cannot be written; nothing of it is left.
        """
        with while_doing(f"saving the writable layer {record.name!r}"):
            files = WriteSet(self.path, durable=self._durable)
            try:
                with files.naming():
                    files.chmod(0o755)
                    record.write(files.path)
                files.flush()
            except BaseException:
                files.cancel()
                raise
            return files

    def begin_mount_deletion(self, name: str) -> WriteSet:
        """Move a writable layer's record into a transaction, so that a process that dies leaves no half of a record.

        Returns:
            The record: `cancel` removes it, `publish(mount_path(name))` restores it.

        Raises:
            FileNotFoundError: there is no such record.
        """
        with while_doing(f"removing the writable layer {name!r}"):
            files = WriteSet(self.path, durable=self._durable)
            try:
                files.move_in(self.mount_path(name))
            except BaseException:
                if files.has_record:
                    files.abandon()  # the deletion has begun, and gc finishes it
                else:
                    files.cancel()
                raise
            return files


def _names(directory: Path, wanted: str = _ANY) -> list[str]:
    """Return the names of the directories in one, those that match, sorted."""
    matches = re.compile(wanted).fullmatch  # there may be tens of thousands
    return [name for name in inside.directory_names(directory) if matches(name)]
