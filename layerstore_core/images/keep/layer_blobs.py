"""Writing layers as blobs: as they came compressed where that can be had, compressed anew, or as plain tars."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import BinaryIO, Final, Protocol

from layerstore_core.base import inside
from layerstore_core.base.digests import DiffID
from layerstore_core.errors import BadRecord, IntegrityError, LayerStoreError
from layerstore_core.images.keep.compressed import CompressedLayers
from layerstore_core.images.keep.compression import Compression
from layerstore_core.images.keep.recipe import Recipe
from layerstore_core.images.output import Output, WrongSize
from layerstore_core.log import logger
from layerstore_core.store.handles import Layer
from layerstore_core.store.registration.layer import Progress
from layerstore_core.store.store import LayerStore
from layerstore_core.streams.compression import detect

LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
_OCI_TYPES: Final = "application/vnd.oci.image.layer."
_CHUNK: Final = 1 << 20


class BlobPath(Protocol):
    """Returns the path of a blob in the output."""

    def __call__(self, digest: str, /) -> str: ...


class LayerBlob:
    """A layer's blob in the output.

    Args:
        digest: its digest.
        size: its size in bytes.
        media_type: its media type, for a new manifest.
    """

    def __init__(self, digest: str, size: int, media_type: str) -> None:
        self.digest = digest
        self.size = size
        self.media_type = media_type

    def descriptor(self) -> dict[str, str | int]:
        """Return its descriptor."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


class _WrongDigest(LayerStoreError):
    """The blob that a recipe has made does not have the recipe's digest."""


class LayerBlobs:
    """A writer of layers to one output; each blob is written once.

    Args:
        store: the store of the layers.
        output: the archive or directory to write to.
        path_of: returns the path of a blob in the output.
        written: the digests of the blobs in the output; those of layers are added.
        compressed: what is known of the layers as they came compressed; with `None` they are written as plain tars.
        compression: how to compress all layers; `None`: as they came, if possible.
        progress: called now and then with the bytes of layers read so far.
    """

    def __init__(
        self,
        store: LayerStore,
        output: Output,
        path_of: BlobPath,
        *,
        written: set[str],
        compressed: CompressedLayers | None,
        compression: Compression | None,
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._output = output
        self._path_of = path_of
        self._written = written
        self._compressed = compressed
        self._compression = compression
        self._progress = progress
        self._bytes = 0
        self._known: dict[tuple[DiffID, str | None], LayerBlob] = {}

    def write(self, layer: Layer, wanted: str | None) -> LayerBlob:
        """Write a layer.

        Args:
            layer: the layer.
            wanted: the digest that its blob is to have; it may get another one.

        Raises:
            IntegrityError: the layer is damaged.
            OSError: the output cannot be written.
        """
        key = layer.diff_id, wanted
        if key not in self._known:
            self._known[key] = self._write(layer, wanted)
        return self._known[key]

    def _write(self, layer: Layer, wanted: str | None) -> LayerBlob:
        if self._compression is not None and self._compression.method != "none":
            return self._compress(layer, self._compression)
        if self._compression is None and self._compressed is not None and wanted != layer.diff_id:
            if wanted is not None and (blob := self._as_before(layer, wanted)) is not None:
                return blob
            recipe = self._compressed.recipes.get(layer.diff_id)
            others = [recipe.digest] if recipe is not None else []
            for digest in [*others, *self._compressed.blobs.digests(layer.diff_id)]:
                if digest != wanted and (blob := self._as_before(layer, digest)) is not None:
                    return blob
        return self._plain(layer)

    def _as_before(self, layer: Layer, digest: str) -> LayerBlob | None:
        """Write the blob with a digest that the layer came with; `None` if it cannot be had any more."""
        assert self._compressed is not None
        blobs, recipe = self._compressed.blobs, self._compressed.recipes.get(layer.diff_id)
        if blobs.has(layer.diff_id, digest):
            try:
                size = blobs.size(layer.diff_id, digest)
                start = next(blobs.read(layer.diff_id, digest), b"")
                if digest not in self._written:
                    self._output.add(self._path_of(digest), size, self._counted(blobs.read(layer.diff_id, digest)))
                    self._written.add(digest)
                return LayerBlob(digest, size, f"{LAYER_TYPE}+{detect(start)}" if detect(start) else LAYER_TYPE)
            except (BadRecord, WrongSize, FileNotFoundError) as error:
                logger.warning("a kept blob of layer {} cannot be used: {}", layer.diff_id, error)
        if recipe is not None and recipe.digest == digest:
            try:
                if digest not in self._written:
                    with closing(layer.tar_stream()) as stream:
                        encoded = _checked(recipe, recipe.encode(self._pieces(stream)))
                        self._output.add(self._path_of(digest), recipe.size, encoded)
                    self._written.add(digest)
                # A new manifest is OCI's; types of Docker must not be among its layers.
                is_oci = recipe.media_type.startswith(_OCI_TYPES)
                return LayerBlob(digest, recipe.size, recipe.media_type if is_oci else f"{LAYER_TYPE}+gzip")
            except (WrongSize, _WrongDigest):
                logger.info("layer {}: its compressed form cannot be re-created", layer.diff_id)
        return None

    def _plain(self, layer: Layer) -> LayerBlob:
        size, digest = layer.tar_size(), str(layer.diff_id)
        if digest not in self._written:
            try:
                with closing(layer.tar_stream()) as stream:
                    self._output.add(self._path_of(digest), size, self._pieces(stream))
            except WrongSize:
                raise IntegrityError(
                    f"the tar of layer {layer.chain_id} does not have {size} bytes, as its records say; "
                    "'layerstore check --full' finds the damage"
                ) from None
            self._written.add(digest)
        return LayerBlob(digest, size, LAYER_TYPE)

    def _compress(self, layer: Layer, compression: Compression) -> LayerBlob:
        """Compress a layer to a temporary file, because its digest and size are its place and its header."""
        found = hashlib.sha256()
        size = 0
        with inside.temporary_file(self._store.context.scratch_directory()) as spool:
            with closing(layer.tar_stream()) as stream:
                for chunk in compression.compress(self._pieces(stream)):
                    found.update(chunk)
                    size += len(chunk)
                    piece = memoryview(chunk)
                    while piece:
                        piece = piece[os.write(spool.fileno(), piece) :]
            digest = f"sha256:{found.hexdigest()}"
            if digest not in self._written:
                os.lseek(spool.fileno(), 0, os.SEEK_SET)
                self._output.add(self._path_of(digest), size, iter(lambda: spool.read(_CHUNK), b""))
                self._written.add(digest)
        return LayerBlob(digest, size, f"{LAYER_TYPE}{compression.suffix}")

    def _pieces(self, stream: BinaryIO) -> Iterator[bytes]:
        return self._counted(iter(lambda: stream.read(_CHUNK), b""))

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._bytes += len(chunk)
            if self._progress is not None:
                self._progress(self._bytes, 0)
            yield chunk


def _checked(recipe: Recipe, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass chunks through, and compare their digest with the recipe's at the end."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if f"sha256:{digest.hexdigest()}" != recipe.digest:
        raise _WrongDigest(recipe.digest)
