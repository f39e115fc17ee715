"""A driver that keeps each layer's own tar, and so exports the same bytes that were registered.

Each layer is a directory below the driver's home. `<id>/tar.zst` is the tar as it was registered, in independent zstd
frames, so that it can be read from the middle. `<id>/tree` has the files. A writable layer has no tar, and neither has
a layer to which a second tar was applied.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

from layerstore_core import (
    Capabilities,
    IterStream,
    LayerStream,
    compare_trees,
    hookimpl,
    pack_changes,
    unpack_layer,
)
from layerstore_core.sdk import DirectoryDriver
from layerstore_tarball.frames import FrameReader, FrameWriter

_CHUNK = 1 << 20
_TAR = "tar.zst"
#: Holds the ID of the layer that the tar is a diff against.
_PARENT = "parent"
#: Marks a writable layer: its files may differ from any tar.
_WRITABLE = "writable"


class TarballDriver(DirectoryDriver):
    """A driver whose layers are copied trees, each with the layer's own tar next to it."""

    contract: ClassVar = 1

    def tree(self, layer_id: str) -> Path:
        return self.layer_directory(layer_id) / "tree"

    def fill(self, layer_id: str, parent_id: str, *, writable: bool) -> None:
        super().fill(layer_id, parent_id, writable=writable)
        if writable:
            (self.layer_directory(layer_id) / _WRITABLE).touch()

    @hookimpl
    def capabilities(self) -> Capabilities:
        return Capabilities(reproduces_exact_diffs=True)

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        fields = {"Directory": self.get(layer_id)}
        tar = self.layer_directory(layer_id) / _TAR
        if tar.exists():
            fields |= {"Tar": str(tar), "TarBytes": str(tar.stat().st_size)}
        return fields

    @hookimpl
    def apply_diff(self, layer_id: str, parent_id: str, diff: LayerStream) -> int:
        layer, tree, id_mapping = self.layer_directory(layer_id), self.tree(layer_id), self.context.id_mapping
        if (layer / _WRITABLE).exists() or (layer / _TAR).exists():
            # A writable layer, or a second tar: no single tar describes the layer, so only the files are kept.
            (layer / _TAR).unlink(missing_ok=True)
            return unpack_layer(diff, str(tree), id_mapping=id_mapping)
        (layer / _PARENT).write_text(parent_id)
        with FrameWriter(layer / _TAR) as kept:
            tee = _Tee(diff, kept)
            size = unpack_layer(LayerStream.over(cast("BinaryIO", tee)), str(tree), id_mapping=id_mapping)
            tee.finish()
        return size

    @hookimpl
    def diff(self, layer_id: str, parent_id: str) -> BinaryIO:
        layer, tree = self.layer_directory(layer_id), self.tree(layer_id)
        if (layer / _TAR).exists() and (layer / _PARENT).read_text() == parent_id:
            return cast("BinaryIO", io.BufferedReader(FrameReader(layer / _TAR)))
        changes = compare_trees(tree, self.tree(parent_id) if parent_id else None)
        chunks = pack_changes(tree, changes, id_mapping=self.context.id_mapping)
        return cast("BinaryIO", io.BufferedReader(IterStream(chunks)))


class _Tee:
    """A reader that writes all it reads from a stream to a file as well."""

    def __init__(self, source: LayerStream, kept: FrameWriter) -> None:
        # The stream returns one header or one payload at a time. The buffer reads many of them at once, which is
        # faster.
        self._source = io.BufferedReader(source, _CHUNK)
        self._kept = kept

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._kept.write(data)
        return data

    def finish(self) -> None:
        """Read and write the bytes that the unpacker did not need. The stream stays open: the store closes it."""
        while self.read(_CHUNK):
            pass
        self._source.detach()
