"""A driver that keeps each layer's own tar, and so gives it back bit for bit.

Below the driver's home, for each layer: `<id>/tar.zst`, the tar as it came, in zstd frames of their own, so that it can be
read from the middle; and `<id>/tree`, the files. A writable layer, and a layer to which more was applied, has no tar.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

from layerstore_core import (
    Capabilities,
    ConfigError,
    DriverContext,
    IterStream,
    LayerStream,
    compare_trees,
    copy_tree,
    hookimpl,
    pack_changes,
    remove_tree,
    unpack_layer,
)
from layerstore_tarball.frames import FrameReader, FrameWriter

_CHUNK = 1 << 20
_TAR = "tar.zst"
#: Holds the ID of the layer that the tar is a diff against.
_PARENT = "parent"
#: Marks a layer that others write to: what it holds is not what any tar says.
_WRITABLE = "writable"


class TarballDriver:
    """Trees by copying, exports by keeping."""

    def __init__(self, context: DriverContext) -> None:
        self._context = context
        self._home = context.home

    @hookimpl
    def capabilities(self) -> Capabilities:
        return Capabilities(reproduces_exact_diffs=True)

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        if storage_opt:
            raise ConfigError(f"the tarball driver has no storage option {', '.join(sorted(storage_opt))}")
        if parent_id:
            os.stat(self._tree(parent_id))
        self._home.mkdir(mode=0o710, parents=True, exist_ok=True)
        (self._home / layer_id).mkdir(mode=0o700)
        try:
            tree = self._tree(layer_id)
            tree.mkdir()
            tree.chmod(0o755)
            if os.geteuid() == 0:
                os.chown(tree, *self._context.id_mapping.root_pair())
            if parent_id:
                copy_tree(self._tree(parent_id), tree)
        except BaseException:
            self.remove(layer_id)
            raise

    @hookimpl
    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        if mount_label:
            raise ConfigError("the tarball driver cannot label files for SELinux")
        self.create(layer_id, parent_id, storage_opt)
        (self._home / layer_id / _WRITABLE).touch()

    @hookimpl
    def remove(self, layer_id: str) -> None:
        remove_tree(str(self._home / layer_id))

    @hookimpl
    def get(self, layer_id: str) -> str:
        os.stat(self._tree(layer_id))
        return str(self._tree(layer_id))

    @hookimpl
    def put(self, layer_id: str) -> None:
        """Nothing is mounted."""

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        return (self._home / layer_id).is_dir()

    @hookimpl
    def layer_ids(self) -> list[str]:
        return sorted(os.listdir(self._home)) if self._home.is_dir() else []

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        fields = {"Directory": self.get(layer_id)}
        tar = self._home / layer_id / _TAR
        if tar.exists():
            fields |= {"Tar": str(tar), "TarBytes": str(tar.stat().st_size)}
        return fields

    @hookimpl
    def apply_diff(self, layer_id: str, parent_id: str, diff: LayerStream) -> int:
        layer = self._home / layer_id
        if (layer / _WRITABLE).exists() or (layer / _TAR).exists():
            # More than one tar, or what somebody writes: the files alone say what it is.
            (layer / _TAR).unlink(missing_ok=True)
            return unpack_layer(diff, str(self._tree(layer_id)), id_mapping=self._context.id_mapping)
        (layer / _PARENT).write_text(parent_id)
        with FrameWriter(layer / _TAR) as kept:
            tee = _Tee(diff, kept)
            size = unpack_layer(
                LayerStream.over(cast("BinaryIO", tee)), str(self._tree(layer_id)), id_mapping=self._context.id_mapping
            )
            tee.finish()
        return size

    @hookimpl
    def diff(self, layer_id: str, parent_id: str) -> BinaryIO:
        layer = self._home / layer_id
        if (layer / _TAR).exists() and (layer / _PARENT).read_text() == parent_id:
            return cast("BinaryIO", io.BufferedReader(FrameReader(layer / _TAR)))
        tree = self._tree(layer_id)
        changes = compare_trees(tree, self._tree(parent_id) if parent_id else None)
        chunks = pack_changes(tree, changes, id_mapping=self._context.id_mapping)
        return cast("BinaryIO", io.BufferedReader(IterStream(chunks)))

    def _tree(self, layer_id: str) -> Path:
        return self._home / layer_id / "tree"


class _Tee:
    """Keeps all that is read of a stream."""

    def __init__(self, source: LayerStream, kept: FrameWriter) -> None:
        # The stream gives a header or a payload at a time; together they are read faster.
        self._source = io.BufferedReader(source, _CHUNK)
        self._kept = kept

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._kept.write(data)
        return data

    def finish(self) -> None:
        """Keep what the unpacker has left, and let go of the stream, which is the store's."""
        while self.read(_CHUNK):
            pass
        self._source.detach()
