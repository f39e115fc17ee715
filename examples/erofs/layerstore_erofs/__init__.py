"""A driver that keeps each layer as one compressed, read-only EROFS image, and stacks images with overlayfs.

Below the driver's home, for each layer:

- `<id>/parent`: the ID of the parent layer.
- `<id>/image.erofs`: the layer's own files, once its tar was applied.
- `<id>/upper`, `<id>/work`: overlayfs's two directories, until the image is made. A writable layer keeps them.
- `<id>/merged`: the mount point of the layer, while it is mounted.

Images are mounted from their files, without loop devices and without mount points of their own: the overlay keeps them
mounted.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from layerstore_core import (
    Capabilities,
    DriverContext,
    DriverNotSupported,
    LayerStream,
    copy_metadata,
    hookimpl,
    remove_tree,
    unpack_layer,
)
from layerstore_core.sdk import DirectoryDriver
from layerstore_erofs import syscalls
from layerstore_erofs.images import PROGRAM, make_image, name_beyond_mkfs

_IMAGE = "image.erofs"
_WRITABLE = "writable"


class Options(BaseModel):
    """The driver's options."""

    model_config = ConfigDict(extra="forbid")

    compression: str = Field(default="lz4hc", description="An argument of mkfs.erofs -z; empty: no compression.")


class ErofsDriver(DirectoryDriver):
    """A driver that keeps layers as images."""

    contract: ClassVar = 1
    driver_name: ClassVar = "erofs"
    Options: ClassVar = Options

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._compression: str = context.options.compression
        self.probe(context)

    @classmethod
    def probe(cls, context: DriverContext) -> None:
        """Raise `DriverNotSupported` if images cannot be made, mounted and stacked here."""
        if os.geteuid() != 0:
            raise DriverNotSupported("the erofs driver mounts file systems, which only root may do; run as root")
        if shutil.which(PROGRAM) is None:
            raise DriverNotSupported(f"{PROGRAM} is not installed; install the package erofs-utils")
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
                    f"EROFS images cannot be mounted from files and stacked here: {error} ({notes}); this needs Linux "
                    "6.13 or newer with CONFIG_EROFS_FS_BACKED_BY_FILE, and a file system that overlayfs can write to"
                ) from error

    @hookimpl
    def capabilities(self) -> Capabilities:
        return Capabilities(max_depth=125)

    # Layers

    def tree(self, layer_id: str) -> Path:
        return self.layer_directory(layer_id) / "upper"

    def fill(self, layer_id: str, parent_id: str, *, writable: bool) -> None:
        layer = self.layer_directory(layer_id)
        if parent_id:
            os.stat(self.layer_directory(parent_id))  # FileNotFoundError if there is no such parent
            with ExitStack() as opened:
                copy_metadata(f"/proc/self/fd/{self._own_tree(parent_id, opened)}/.", str(layer / "upper"))
        (layer / "parent").write_text(parent_id)
        (layer / "work").mkdir()
        if writable:
            (layer / _WRITABLE).touch()

    @hookimpl
    def remove(self, layer_id: str) -> None:
        self.put(layer_id)
        super().remove(layer_id)

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        os.stat(self.layer_directory(layer_id))
        image = self.layer_directory(layer_id) / _IMAGE
        if image.exists():
            return {"Image": str(image), "ImageBytes": str(image.stat().st_size)}
        return {"Upper": str(self.layer_directory(layer_id) / "upper")}

    # Mounts

    @hookimpl
    def get(self, layer_id: str) -> str:
        layer = self.layer_directory(layer_id)
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
        merged = self.layer_directory(layer_id) / "merged"
        while syscalls.unmount(str(merged)):
            pass
        if merged.is_dir():
            merged.rmdir()

    def _mount(self, layer_id: str, opened: ExitStack) -> int:
        """Mount a layer's whole tree without a mount point; return its descriptor, which `opened` closes."""
        layer = self.layer_directory(layer_id)
        lower = [self._own_tree(parent, opened) for parent in self._parents(layer_id)]
        if (layer / _IMAGE).exists():
            own = self._own_tree(layer_id, opened)
            # A single tree needs no overlay.
            return _closing(opened, syscalls.mount_overlay([own, *lower], None, None, str(layer))) if lower else own
        upper, work = (_directory(opened, layer / part) for part in ("upper", "work"))
        if not lower:
            # overlayfs needs a lower directory.
            (layer / "nothing").mkdir(exist_ok=True)
            lower = [_directory(opened, layer / "nothing")]
        return _closing(opened, syscalls.mount_overlay(lower, upper, work, str(layer)))

    def _own_tree(self, layer_id: str, opened: ExitStack) -> int:
        """Open the tree of a layer's own files: its image, mounted without a mount point, or its directory."""
        layer = self.layer_directory(layer_id)
        if (layer / _IMAGE).exists():
            return _closing(opened, syscalls.mount_image(str(layer / _IMAGE)))
        return _directory(opened, layer / "upper")

    def _parents(self, layer_id: str) -> Iterator[str]:
        """Yield the IDs of a layer's ancestors, the parent first."""
        while layer_id := (self.layer_directory(layer_id) / "parent").read_text():
            yield layer_id

    # Content

    @hookimpl
    def apply_diff(self, layer_id: str, diff: LayerStream) -> int | None:
        layer = self.layer_directory(layer_id)
        if (layer / _IMAGE).exists():
            raise OSError(errno.EROFS, "the layer is an image, which cannot be changed", str(layer))
        if (layer / _WRITABLE).exists() or os.path.ismount(layer / "merged"):
            return None  # the core unpacks the tar into the mounted tree, and the layer stays a directory
        # Unpack through the overlay: the kernel then writes deletions in the form in which it reads them later.
        with self._mounted(layer_id) as merged:
            size = unpack_layer(diff, merged, id_mapping=self.context.id_mapping)
        self._make_image(layer_id)
        return size

    @hookimpl
    def seal(self, layer_id: str) -> bool:
        layer = self.layer_directory(layer_id)
        os.stat(layer)
        (layer / _WRITABLE).unlink(missing_ok=True)
        self._make_image(layer_id)
        return True

    def _make_image(self, layer_id: str) -> None:
        """Replace the directory of a layer's own files by an image, or finish that."""
        layer = self.layer_directory(layer_id)
        if not (layer / _IMAGE).exists():
            if too_long := name_beyond_mkfs(layer / "upper"):
                # The kernel supports such a name, and overlayfs stacks directories as well as images.
                self.context.logger.warning(
                    f"layer {layer_id} stays a directory: {PROGRAM} cannot write the name {too_long!r}"
                )
                return
            make_image(layer / "upper", layer / _IMAGE, self._compression)
        for part in ("upper", "work", "nothing"):
            remove_tree(str(layer / part))

    @contextmanager
    def _mounted(self, layer_id: str) -> Iterator[str]:
        """Mount a layer for the length of a `with` block."""
        try:
            yield self.get(layer_id)
        finally:
            self.put(layer_id)


def _closing(opened: ExitStack, fd: int) -> int:
    """Have `opened` close a descriptor, and return it."""
    opened.callback(os.close, fd)
    return fd


def _directory(opened: ExitStack, path: Path) -> int:
    """Open a directory only to refer to it (`O_PATH`)."""
    return _closing(opened, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


__all__ = ["ErofsDriver", "Options"]
