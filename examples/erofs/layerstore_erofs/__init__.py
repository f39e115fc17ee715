"""A driver that keeps each layer as one compressed, read-only EROFS image, and stacks images with overlayfs.

Below the driver's home, for each layer:

- `<id>/parent`: the ID of the layer below;
- `<id>/image.erofs`: what the layer itself brings, once its tar was applied;
- `<id>/upper`, `<id>/work`: until then, and for as long as it lives if the layer is writable, overlay's two directories;
- `<id>/merged`: where the layer is mounted, while it is.

Images are mounted from their files, without loop devices and without mount points of their own: the overlay holds them.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from layerstore_core import (
    Capabilities,
    ConfigError,
    DriverContext,
    DriverNotSupported,
    LayerStream,
    copy_metadata,
    hookimpl,
    remove_tree,
    unpack_layer,
)
from layerstore_erofs import syscalls
from layerstore_erofs.images import PROGRAM, make_image, name_beyond_mkfs

_IMAGE = "image.erofs"
_WRITABLE = "writable"


class Options(BaseModel):
    """The driver's options.

    Attributes:
        compression: as `mkfs.erofs -z` takes it; empty for none.
    """

    model_config = ConfigDict(extra="forbid")

    compression: str = "lz4hc"


class ErofsDriver:
    """Layers as images."""

    driver_name: ClassVar = "erofs"
    Options: ClassVar = Options

    def __init__(self, context: DriverContext) -> None:
        self._home = context.home
        self._id_mapping = context.id_mapping
        self._logger = context.logger
        self._compression: str = context.options.compression
        self.probe(context)

    @classmethod
    def probe(cls, context: DriverContext) -> None:
        """Raises `DriverNotSupported` where images cannot be made, mounted and stacked."""
        if os.geteuid() != 0:
            raise DriverNotSupported("the erofs driver mounts, which needs the rights of root")
        if shutil.which(PROGRAM) is None:
            raise DriverNotSupported(f"{PROGRAM} is not installed (package erofs-utils)")
        with tempfile.TemporaryDirectory(dir=context.nearest_directory()) as name, ExitStack() as opened:
            directory = Path(name)
            for part in ("tree", "upper", "work"):
                (directory / part).mkdir()
            try:
                make_image(directory / "tree", directory / _IMAGE, "")
                image = _closing(opened, syscalls.mount_image(str(directory / _IMAGE)))
                upper, work = (_directory(opened, directory / part) for part in ("upper", "work"))
                _closing(opened, syscalls.mount_overlay([image], upper, work, name))
            except OSError as error:
                notes = "; ".join(getattr(error, "__notes__", ()))
                raise DriverNotSupported(
                    f"EROFS images cannot be mounted from files and stacked here: {error} ({notes}); Linux 6.13 or newer "
                    "is needed, with CONFIG_EROFS_FS_BACKED_BY_FILE, and a file system that overlayfs can write to"
                ) from error

    @hookimpl
    def capabilities(self) -> Capabilities:
        return Capabilities(max_depth=125)

    # Layers

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        if storage_opt:
            raise ConfigError(f"the erofs driver has no storage option {', '.join(sorted(storage_opt))}")
        if parent_id:
            os.stat(self._home / parent_id)
        self._home.mkdir(mode=0o710, parents=True, exist_ok=True)
        layer = self._home / layer_id
        layer.mkdir(mode=0o700)
        try:
            (layer / "parent").write_text(parent_id)
            for part in ("upper", "work"):
                (layer / part).mkdir()
            (layer / "upper").chmod(0o755)
            os.chown(layer / "upper", *self._id_mapping.root_pair())
            if parent_id:
                with ExitStack() as opened:
                    copy_metadata(f"/proc/self/fd/{self._shown(parent_id, opened)}/.", str(layer / "upper"))
        except BaseException:
            remove_tree(str(layer))
            raise

    @hookimpl
    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        if mount_label:
            raise ConfigError("the erofs driver cannot label files for SELinux")
        self.create(layer_id, parent_id, storage_opt)
        (self._home / layer_id / _WRITABLE).touch()

    @hookimpl
    def remove(self, layer_id: str) -> None:
        self.put(layer_id)
        remove_tree(str(self._home / layer_id))

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        return (self._home / layer_id).is_dir()

    @hookimpl
    def layer_ids(self) -> list[str]:
        return sorted(os.listdir(self._home)) if self._home.is_dir() else []

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        os.stat(self._home / layer_id)
        image = self._home / layer_id / _IMAGE
        if image.exists():
            return {"Image": str(image), "ImageBytes": str(image.stat().st_size)}
        return {"Upper": str(self._home / layer_id / "upper")}

    # Mounts

    @hookimpl
    def get(self, layer_id: str) -> str:
        layer = self._home / layer_id
        os.stat(layer)
        merged = layer / "merged"
        if os.path.ismount(merged):
            return str(merged)
        merged.mkdir(exist_ok=True)
        try:
            with ExitStack() as opened:
                syscalls.attach(self._mount(layer_id, opened), str(merged))
        except BaseException:
            merged.rmdir()
            raise
        return str(merged)

    @hookimpl
    def put(self, layer_id: str) -> None:
        merged = self._home / layer_id / "merged"
        while syscalls.unmount(str(merged)):
            pass
        if merged.is_dir():
            merged.rmdir()

    def _mount(self, layer_id: str, opened: ExitStack) -> int:
        """The layer's tree, mounted nowhere yet."""
        layer = self._home / layer_id
        below = [self._shown(parent, opened) for parent in self._parents(layer_id)]
        if (layer / _IMAGE).exists():
            own = self._shown(layer_id, opened)
            # An overlay of one tree is that tree.
            return _closing(opened, syscalls.mount_overlay([own, *below], None, None, str(layer))) if below else own
        upper, work = (_directory(opened, layer / part) for part in ("upper", "work"))
        if not below:
            (layer / "nothing").mkdir(exist_ok=True)
            below = [_directory(opened, layer / "nothing")]
        return _closing(opened, syscalls.mount_overlay(below, upper, work, str(layer)))

    def _shown(self, layer_id: str, opened: ExitStack) -> int:
        """What a layer itself brings, as a tree."""
        layer = self._home / layer_id
        if (layer / _IMAGE).exists():
            return _closing(opened, syscalls.mount_image(str(layer / _IMAGE)))
        return _directory(opened, layer / "upper")

    def _parents(self, layer_id: str) -> Iterator[str]:
        """The layers below, the nearest first."""
        while layer_id := (self._home / layer_id / "parent").read_text():
            yield layer_id

    # Content

    @hookimpl
    def apply_diff(self, layer_id: str, diff: LayerStream) -> int | None:
        layer = self._home / layer_id
        if (layer / _IMAGE).exists():
            raise OSError(errno.EROFS, "the layer is complete: it cannot be changed any more", str(layer))
        if (layer / _WRITABLE).exists() or os.path.ismount(layer / "merged"):
            return None  # core unpacks it into the mounted tree, and it stays a directory
        # Through the overlay: the kernel then writes deletions as it wants to read them later.
        with self._mounted(layer_id) as merged:
            size = unpack_layer(diff, merged, id_mapping=self._id_mapping)
        if too_long := name_beyond_mkfs(layer / "upper"):
            # The kernel would hold such a name; overlayfs stacks directories as well as images.
            self._logger.warning(f"layer {layer_id} stays a directory: {PROGRAM} cannot write the name {too_long!r}")
            return size
        make_image(layer / "upper", layer / _IMAGE, self._compression)
        for part in ("upper", "work", "nothing"):
            remove_tree(str(layer / part))
        return size

    @contextmanager
    def _mounted(self, layer_id: str) -> Iterator[str]:
        try:
            yield self.get(layer_id)
        finally:
            self.put(layer_id)


def _closing(opened: ExitStack, fd: int) -> int:
    opened.callback(os.close, fd)
    return fd


def _directory(opened: ExitStack, path: Path) -> int:
    return _closing(opened, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


__all__ = ["ErofsDriver", "Options"]
