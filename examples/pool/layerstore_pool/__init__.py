"""A driver that keeps each file once, for all layers that have it: a pool of files, and trees of links to them.

Below the driver's home:

- `layers/<id>/tree`: all files of a layer. It is complete: what a child has of its parent are links, too.
- `layers/<id>/writable`: marks a writable layer. All its files are its own.
- `pool/<digest>.<metadata>.<number>`: a file of this content and metadata, which layers link to.
- `pool/<digest>.any.<number>`: a file of this content, which files of layers share extents with (reflinks).

`docs/tutorial-pool.md` of layerstore builds the driver step by step.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

# Names that few commands need are used as `layerstore_core.<name>`: they are loaded at their first use.
import layerstore_core
from layerstore_core import BadRecord, Capabilities, DriverContext, DriverNotSupported, hookimpl, sdk
from layerstore_core.sdk import DirectoryDriver, inside, make_directory
from layerstore_pool.extents import can_clone
from layerstore_pool.pool import Pool
from layerstore_pool.sharing import Links, Reflinks, files_of

if TYPE_CHECKING:
    from layerstore_core import LayerStream, MountSpec

_MODE: Final = 0o700
_WRITABLE: Final = "writable"
#: The lock for what changes the pool but by adding a file.
_LOCK: Final = "pool"


class PoolDriver(DirectoryDriver):
    """A driver that shares files between layers."""

    contract: ClassVar = 1
    Options: ClassVar = "layerstore_pool.options:Options"

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self.layers = context.home / "layers"
        self._reflinks: bool = bool(context.options) and context.options.sharing == "reflinks"
        self._pool = Pool(context.home / "pool", self.layers)
        if not context.read_only and (self._reflinks or not inside.is_directory(self.layers)):
            self.probe(context)  # links have worked before, if there are layers

    @classmethod
    def probe(cls, context: DriverContext) -> None:
        """Raise `DriverNotSupported` if files cannot be shared here."""
        import tempfile

        near = context.nearest_directory()
        if context.options and context.options.sharing == "reflinks" and not can_clone(near):
            raise DriverNotSupported(
                f"the file system of {near} has no reflinks, which the option sharing = reflinks asks for; use btrfs "
                "or XFS, or sharing = links"
            )
        with tempfile.TemporaryDirectory(dir=near) as name:
            file = Path(name, "file")
            file.touch()
            try:
                os.link(file, file.with_name("link"))
            except OSError as error:
                raise DriverNotSupported(
                    f"the file system of {near} has no hard links: {error.strerror}; put the store elsewhere, or use "
                    "the driver vfs"
                ) from error

    @hookimpl
    def capabilities(self) -> Capabilities:
        return Capabilities(shares_inodes=not self._reflinks)

    # Layers

    def tree(self, layer_id: str) -> Path:
        return self.layer_directory(layer_id) / "tree"

    def make_home(self) -> None:
        super().make_home()
        make_directory(self._pool.directory, _MODE)

    def fill(self, layer_id: str, parent_id: str, *, writable: bool) -> None:
        """Fill a new tree with the parent's files: links to them, or copies if a user may write to one of both."""
        if writable:
            inside.write(self.layer_directory(layer_id) / _WRITABLE, b"", 0o600, new=True)
        if self._reflinks or writable or (parent_id and self._is_writable(parent_id)):
            super().fill(layer_id, parent_id, writable=writable)
        elif parent_id:
            sdk.link_tree(self.get(parent_id), self.tree(layer_id))

    @hookimpl
    def remove(self, layer_id: str) -> None:
        """Remove a layer, and from the pool what no other layer has."""
        inodes: set[int] = set()
        # A layer may be there only in part. What is not found here, `cleanup` finds.
        with suppress(OSError, BadRecord):
            inodes = {inode for _, inode in files_of(self.tree(layer_id))}
        super().remove(layer_id)
        with self.context.lock(_LOCK):
            self._pool.collect(inodes)

    @hookimpl
    def mounts(self, layer_id: str, read_only: bool) -> list[MountSpec]:
        return [layerstore_core.MountSpec.bind(self.get(layer_id), read_only=read_only)]

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        return {"Directory": self.get(layer_id), "Files": "its own" if self._is_writable(layer_id) else "shared"}

    @hookimpl
    def apply_diff(self, layer_id: str, diff: LayerStream) -> int:
        """Unpack a tar. In a read-only layer, share each file that was made with the pool.

        A hard-link entry changes the metadata of a file that other layers may have, so links are broken before.
        """
        tree, id_mapping = self.tree(layer_id), self.context.id_mapping
        if self._is_writable(layer_id):
            return layerstore_core.unpack_layer(diff, str(tree), id_mapping=id_mapping)
        way = Reflinks if self._reflinks else Links
        with way(self._pool.directory, self.layer_directory(layer_id), tree, self.context.logger) as files:
            return layerstore_core.unpack_layer(
                diff, str(tree), id_mapping=id_mapping, break_links=True, on_file=files.share
            )

    def _is_writable(self, layer_id: str) -> bool:
        return inside.exists(self.layer_directory(layer_id) / _WRITABLE)

    # The pool

    @hookimpl
    def cleanup(self) -> None:
        """Remove the files of the pool that no layer has: what a process that was killed has left."""
        with self.context.lock(_LOCK):
            self._pool.collect()

    @hookimpl
    def status(self) -> list[tuple[str, str]]:
        return [("Sharing", "reflinks" if self._reflinks else "links"), ("Pool Files", str(len(self._pool.names())))]

    @hookimpl
    def check_layer(self, layer_id: str) -> list[str]:
        tree = self.tree(layer_id)
        return [] if inside.is_directory(tree) else [f"{tree} is missing: the layer is not whole"]

    @hookimpl
    def check_home(self, full: bool) -> list[str]:
        """Return which files of the pool are damaged, and which layers have them. If `full`, read all contents."""
        return self._pool.check(full=full)

    @hookimpl
    def repair_home(self) -> list[str]:
        """Repair damaged files of the pool, where it has the same content in another file, too."""
        with self.context.lock(_LOCK):
            return self._pool.repair()


__all__ = ["PoolDriver"]
