"""The driver: layers as subvolumes, in Docker's layout.

In the driver's home, which Docker names `btrfs`, `subvolumes/<id>` is the subvolume of a layer. `quotas/<id>` has its
size limit, as bytes in decimal, if it has one.
"""

from __future__ import annotations

import errno
import io
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from layerstore_btrfs import ioctl, quota, subvolumes
from layerstore_btrfs.changes import changes_since_snapshot
from layerstore_btrfs.labels import relabel
from layerstore_btrfs.probe import require_btrfs, try_out
from layerstore_btrfs.search import FIRST_FREE
from layerstore_btrfs.storage_opt import layer_size
from layerstore_core import Capabilities, IterStream, MountSpec, hookimpl, pack_changes, unpack_layer
from layerstore_core.errors import BadRecord
from layerstore_core.sdk import inside, make_directory, write_file

if TYPE_CHECKING:
    from layerstore_core import Change, DriverContext, LayerStream

_DIRECTORY_MODE: Final = 0o710
_QUOTAS_MODE: Final = 0o700
_LONGEST_LIMIT: Final = 64


class BtrfsDriver:
    """A driver that keeps layers as btrfs subvolumes.

    Args:
        context: the surroundings of this instance.

    Raises:
        DriverNotSupported: the home directory is not on btrfs.
    """

    contract = 1
    driver_name = "btrfs"
    priority = 90
    Options = "layerstore_btrfs.options:Options"

    def __init__(self, context: DriverContext) -> None:
        require_btrfs(context.nearest_directory())
        # The smallest allowed size limit, in bytes; 0: any size is allowed.
        self._min_space: Final[int] = context.options.min_space if context.options else 0
        self._id_mapping = context.id_mapping
        self._logger = context.logger
        self._home: Final = context.home
        self._subvolumes: Final = context.home / "subvolumes"
        self._quotas: Final = context.home / "quotas"
        for directory in (self._home, self._subvolumes):
            self._make_directory(directory)

    @classmethod
    def probe(cls, context: DriverContext) -> None:
        """Raise `DriverNotSupported` if subvolumes cannot be made and deleted here."""
        directory = context.nearest_directory()
        require_btrfs(directory)
        try_out(directory)

    # Layers

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        self._create(layer_id, parent_id, "", storage_opt)

    @hookimpl
    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        self._create(layer_id, parent_id, mount_label, storage_opt)

    @hookimpl
    def remove(self, layer_id: str) -> None:
        with subvolumes.opened(self._subvolumes) as directory, _naming(self._path(layer_id)):
            subvolume_id = subvolumes.delete(directory, layer_id.encode())
            if subvolume_id is not None and inside.exists(self._quotas / layer_id):
                quota.remove_group(directory, subvolume_id, self._logger)
        inside.unlink(self._quotas / layer_id, missing_ok=True)

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        return inside.is_directory(self._path(layer_id))

    @hookimpl
    def layer_ids(self) -> list[str]:
        return sorted({*inside.names(self._subvolumes), *inside.names(self._quotas)})

    @hookimpl
    def check_layer(self, layer_id: str) -> list[str]:
        path = self._path(layer_id)
        try:
            # The root of every subvolume has the lowest inode number that a file can have.
            is_subvolume = inside.status(path).st_ino == FIRST_FREE and inside.is_directory(path)
        except FileNotFoundError:
            return [f"{path} is missing; the layer has only its size limit left"]
        return [] if is_subvolume else [f"{path} is no subvolume"]

    @hookimpl
    def parent_of(self, layer_id: str, parent_id: str) -> str | None:
        try:
            with subvolumes.opened(self._path(layer_id)) as subvolume:
                wanted = ioctl.subvol_info(subvolume).parent_uuid
            if not any(wanted):
                return ""  # made empty: a snapshot never loses its parent's UUID
            # The first candidate is mostly right. Then no other is read.
            for candidate in (
                [parent_id, *inside.names(self._subvolumes)] if parent_id else inside.names(self._subvolumes)
            ):
                try:
                    with subvolumes.opened(self._path(candidate)) as subvolume:
                        if ioctl.subvol_info(subvolume).uuid == wanted:
                            return candidate
                except (BadRecord, OSError):
                    continue
        except (BadRecord, OSError):
            pass  # it is no subvolume, which `check_layer` reports, or the kernel does not know the ioctl
        return None

    @hookimpl
    def get(self, layer_id: str) -> str:
        path = self._path(layer_id)
        with subvolumes.opened(path) as subvolume:
            size = self._recorded_limit(layer_id)
            # Set the limit again each time, as Docker does: an administrator may have switched quota off and on.
            if size is not None and size >= self._min_space:
                with _naming(path):
                    quota.limit(subvolume, size, self._logger)
        return str(path)

    @hookimpl
    def put(self, layer_id: str) -> None:
        """Nothing is mounted."""

    @hookimpl
    def mounts(self, layer_id: str, read_only: bool) -> list[MountSpec]:
        path = self.get(layer_id)
        if not read_only:
            with subvolumes.opened(path) as subvolume:
                if ioctl.is_read_only(subvolume):
                    raise OSError(errno.EROFS, "the layer is sealed; it can only be mounted read-only", path)
        return [MountSpec.bind(path, read_only=read_only)]

    @hookimpl
    def seal(self, layer_id: str) -> bool:
        """Make the subvolume read-only. Without the right to do that, leave it as `create` makes layers."""
        path = self._path(layer_id)
        with subvolumes.opened(path) as subvolume, _naming(path), suppress(PermissionError):
            if not ioctl.is_read_only(subvolume):
                ioctl.set_read_only(subvolume, True)
        return True

    # Information

    @hookimpl
    def capabilities(self) -> Capabilities:
        # A child is a snapshot, taken when the child is created. So its parent must be complete by then.
        return Capabilities(parallel_apply=False, quota=self._may_set_limits())

    @hookimpl
    def status(self) -> list[tuple[str, str]]:
        with subvolumes.opened(self._subvolumes) as home:
            filesystem = ioctl.fs_info(home)
            try:
                quota_state = str(quota.status(home))
            except PermissionError:
                quota_state = "unknown to this user"
        return [
            ("Btrfs", ""),
            ("Library Version", f"none; ioctls of Linux {platform.release()}"),
            ("Filesystem UUID", filesystem.fsid),
            ("Devices", str(filesystem.devices)),
            ("Quota", quota_state),
            ("Minimum Space", str(self._min_space)),
            ("Diff", "by generation" if self._may_set_limits() else "by comparing all files"),
        ]

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        path = self._path(layer_id)
        with subvolumes.opened(path) as subvolume:
            info = ioctl.subvol_info(subvolume)
        found = {"ID": layer_id, "Path": str(path), "SubvolumeID": str(info.tree_id), "UUID": info.uuid.hex()}
        if any(info.parent_uuid):
            found["ParentUUID"] = info.parent_uuid.hex()
        size = self._recorded_limit(layer_id)
        if size is not None:
            found["Size"] = str(size)
        return found

    @hookimpl
    def cleanup(self) -> None:
        # The limits are listed first, and then the layers are looked up. A limit is recorded after its subvolume was
        # made, and removed after its subvolume, so a limit without a subvolume is stale.
        for layer_id in inside.names(self._quotas):
            if not inside.exists(self._path(layer_id)):
                self._logger.debug(f"removing the size limit of {layer_id}, which does not exist")
                inside.unlink(self._quotas / layer_id, missing_ok=True)

    # Differences

    @hookimpl
    def apply_diff(self, layer_id: str, parent_id: str, diff: LayerStream) -> int:
        return unpack_layer(diff, str(self._path(layer_id)), id_mapping=self._id_mapping)

    @hookimpl
    def changes(self, layer_id: str, parent_id: str) -> list[Change] | None:
        # None: the core compares all files.
        return changes_since_snapshot(self._path(layer_id), self._path(parent_id)) if parent_id else None

    @hookimpl
    def diff(self, layer_id: str, parent_id: str) -> BinaryIO | None:
        changes = self.changes(layer_id, parent_id)
        if changes is None:
            return None
        chunks = pack_changes(self._path(layer_id), changes, id_mapping=self._id_mapping)
        return cast("BinaryIO", io.BufferedReader(IterStream(chunks)))

    # Internals

    def _create(self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]) -> None:
        size = layer_size(storage_opt, self._min_space)
        path = self._path(layer_id)
        name = layer_id.encode()
        with subvolumes.opened(self._subvolumes) as directory, _naming(path):
            if parent_id:
                subvolumes.snapshot(str(self._path(parent_id)), directory, name)
            else:
                ioctl.subvol_create(directory, name)
            try:
                with subvolumes.opened(name, dir_fd=directory) as subvolume:
                    if not parent_id:
                        self._set_root_metadata(subvolume)
                    if mount_label:
                        relabel(subvolume, str(path), mount_label)
                    if size is not None:
                        quota.limit(subvolume, size, self._logger)
                        self._record_limit(layer_id, size)
            except BaseException:
                self.remove(layer_id)
                raise

    def _set_root_metadata(self, subvolume: int) -> None:
        # The mode that Docker sets; the tar may change it. (The kernel has applied the umask.)
        os.fchmod(subvolume, 0o755)
        owner = self._id_mapping.root_pair()
        if owner != (0, 0):
            os.fchown(subvolume, *owner)

    def _path(self, layer_id: str) -> Path:
        return self._subvolumes / layer_id

    def _record_limit(self, layer_id: str, size: int) -> None:
        make_directory(self._quotas, _QUOTAS_MODE)
        write_file(self._quotas / layer_id, str(size).encode())

    def _recorded_limit(self, layer_id: str) -> int | None:
        try:
            text = inside.read(self._quotas / layer_id, _LONGEST_LIMIT)
        except FileNotFoundError:
            return None
        if not text.isdigit():
            self._logger.warning(
                f"{self._quotas / layer_id} has no number of bytes in it; the layer gets no size limit"
            )
            return None
        return int(text)

    def _may_set_limits(self) -> bool:
        """Return whether this process may search the file system's trees and set limits."""
        with subvolumes.opened(self._subvolumes) as home:
            try:
                quota.status(home)
            except OSError:
                return False
        return True

    def _make_directory(self, directory: Path) -> None:
        if inside.is_directory(directory):
            return
        directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            inside.mkdir(directory, _DIRECTORY_MODE, None if os.geteuid() else (0, self._id_mapping.root_pair()[1]))
        inside.open_directory(directory).close()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the path to an `OSError` inside a `with` block, if it has none: errors of ioctls have no path."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
