"""Writing layers as blobs: as they came compressed where that can be had, compressed again, or as plain tars."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from typing import Any, BinaryIO, Final, Protocol

from layerstore_core.base import inside
from layerstore_core.base.descriptors import write_all
from layerstore_core.base.digests import DiffID
from layerstore_core.errors import BadRecord, IntegrityError, LayerStoreError
from layerstore_core.images.keep.at_once import at_once
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
#: So many layers are looked for in the output at once.
_ASKING: Final = 8


class BlobPath(Protocol):
    """Returns the path of a blob in the output."""

    def __call__(self, digest: str, /) -> str: ...


class Places(Protocol):
    """What is known of blobs that are in the output already, or can be put there without their content."""

    def candidates(self, layer: Layer) -> Sequence[str]:
        """Return the digests of compressed blobs that are known to be of a layer, the most likely first."""

    def put(self, layer: Layer, digest: str) -> int | None:
        """Return the size of a blob that is in the output, or that this call has put there; `None` if it is not."""

    def elsewhere(self, layer: Layer, digest: str) -> tuple[int, Callable[[], Iterator[bytes]]] | None:
        """Return the size and the content of a blob where another place has it; reading may raise `NotFetched`."""

    def start_of(self, digest: str) -> bytes:
        """Return the first bytes of a blob that is in the output."""


class NotFetched(LayerStoreError):
    """The content of a blob could not be had from another place after all."""


class Again:
    """Chunks that can be read several times, each time from the start.

    Args:
        chunks: yields the chunks.
    """

    def __init__(self, chunks: Callable[[], Iterator[bytes]]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks()


class LayerBlob:
    """A layer's blob in the output.

    Args:
        digest: its digest.
        size: its size in bytes.
        media_type: its media type, for a new manifest, or a function that finds it out.
    """

    def __init__(self, digest: str, size: int, media_type: str | Callable[[], str]) -> None:
        self.digest = digest
        self.size = size
        self._media_type = media_type

    @property
    def media_type(self) -> str:
        """Its media type, for a new manifest."""
        if not isinstance(self._media_type, str):
            self._media_type = self._media_type()
        return self._media_type

    def descriptor(self) -> dict[str, str | int]:
        """Return its descriptor."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


class _WrongDigest(LayerStoreError):
    """The blob that a recipe has made does not have the recipe's digest."""


class _Stopped(Exception):
    """Another layer could not be written."""


class LayerBlobs:
    """A writer of layers to one output; each blob is written once.

    Args:
        store: the store of the layers.
        output: the archive, directory or registry to write to.
        path_of: returns the path of a blob in the output.
        written: the digests of the blobs in the output; those of layers are added.
        compressed: what is known of the layers as they came compressed; with `None` they are written as plain tars.
        compression: how to compress all layers; `None`: as they came, if possible.
        otherwise: how to compress the layers that cannot be had as they came; `None`: not at all.
        places: what is known of blobs that are in the output already; `None` for nothing.
        reading: called with each layer that is compressed again, and the bytes of it that were read so far.
        made: called with each layer that is compressed again, its blob, how, and a file with the blob.
        threads: how many layers to write at once; more than one only to an output that takes them at once.
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
        otherwise: Compression | None = None,
        places: Places | None = None,
        reading: Callable[[Layer, int], object] | None = None,
        made: Callable[[Layer, LayerBlob, Compression, BinaryIO], object] | None = None,
        threads: int = 1,
        progress: Progress | None = None,
    ) -> None:
        self._store = store
        self._output = output
        self._path_of = path_of
        self._written = written
        self._compressed = compressed
        self._compression = compression
        self._otherwise = otherwise
        self._places = places
        self._reading = reading
        self._made = made
        self._threads = threads
        self._progress = progress
        self._bytes = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._compressing = threading.Lock()
        self._known: dict[tuple[DiffID, str | None], LayerBlob] = {}

    def write(self, layers: Sequence[tuple[Layer, str | None]]) -> list[LayerBlob]:
        """Write layers, and return the blob of each.

        Args:
            layers: the layers, each with the digest that its blob is to have; it may get another one.

        Raises:
            IntegrityError: a layer is damaged.
            OSError: the output cannot be written.
        """
        keys = {(layer.diff_id, wanted): layer for layer, wanted in layers}
        if self._places is not None and (missing := keys.keys() - self._known.keys()):
            # Waiting for answers takes no memory, and reading layers does.
            jobs = {key: partial(self._find, keys[key], key[1]) for key in missing}
            found = at_once(jobs, threads=_ASKING, stopped=self._stopped, name="layerstore-ask")
            self._known |= {key: blob for key, blob in found.items() if blob is not None}
        missing = keys.keys() - self._known.keys()
        writing = {key: partial(self._write, layer, key[1]) for key, layer in keys.items() if key in missing}
        if self._threads == 1:
            for key, job in writing.items():
                self._known[key] = job()
        elif writing:
            self._known |= at_once(writing, threads=self._threads, stopped=self._stopped, name="layerstore-layer")
        return [self._known[layer.diff_id, wanted] for layer, wanted in layers]

    def _find(self, layer: Layer, wanted: str | None) -> LayerBlob | None:
        """Have a layer's blob in the output without its content, if it is the best one that the layer can get."""
        if self._compression is not None:
            return self._made_before(layer, self._compression)
        if wanted is not None:
            return self._there(layer, wanted)
        return next(filter(None, (self._there(layer, digest) for digest in self._digests(layer))), None)

    def _write(self, layer: Layer, wanted: str | None) -> LayerBlob:
        how = self._compression
        if how is None and self._compressed is not None and (wanted != layer.diff_id or self._otherwise is not None):
            if (blob := self._had(layer, wanted)) is not None:
                return blob
            how = self._otherwise
        return self._plain(layer) if how is None or how.method == "none" else self._compress(layer, how)

    def _made_before(self, layer: Layer, how: Compression) -> LayerBlob | None:
        """Put the blob that compressing the layer would make into the output, unmade; `None` if that cannot be."""
        recipe = None if self._compressed is None else self._compressed.recipes.get(layer.diff_id)
        if recipe is None or recipe != how.recipe(recipe.digest, recipe.size, recipe.media_type):
            return None
        return self._there(layer, recipe.digest)

    def _had(self, layer: Layer, wanted: str | None) -> LayerBlob | None:
        """Write a blob that the layer is known to have had, if possible the wanted one; `None` if there is none."""
        others = [digest for digest in self._digests(layer) if digest != wanted]
        if wanted is not None:
            for find in (self._there, self._as_before, self._from_elsewhere):
                if (blob := find(layer, wanted)) is not None:
                    return blob
        for find in (self._there, self._as_before):
            for digest in others:
                if (blob := find(layer, digest)) is not None:
                    return blob
        return None

    def _digests(self, layer: Layer) -> list[str]:
        """Return the digests of the blobs that the layer is known to have had."""
        assert self._compressed is not None
        recipe = self._compressed.recipes.get(layer.diff_id)
        known = [] if recipe is None else [recipe.digest]
        known += self._compressed.blobs.digests(layer.diff_id)
        return list(dict.fromkeys([*known, *(self._places.candidates(layer) if self._places is not None else ())]))

    def _there(self, layer: Layer, digest: str) -> LayerBlob | None:
        """Put a blob into the output without reading its content; `None` where the output cannot do that."""
        if self._places is None or (size := self._places.put(layer, digest)) is None:
            return None
        self._written.add(digest)
        return self._blob_there(layer, digest, size)

    def _blob_there(self, layer: Layer, digest: str, size: int) -> LayerBlob:
        """Return a blob in the output, whose media type is found out if a new manifest needs it."""
        if digest == layer.diff_id:
            return LayerBlob(digest, size, LAYER_TYPE)
        return LayerBlob(digest, size, partial(self._type_of, layer.diff_id, layer.descriptor or {}, digest))

    def _type_of(self, diff_id: DiffID, registered: Mapping[str, Any], digest: str) -> str:
        """Return the media type of a blob that is in the output.

        Args:
            diff_id: its layer.
            registered: the descriptor that the layer was registered with.
            digest: the digest of the blob.
        """
        said = str(registered.get("mediaType")) if registered.get("digest") == digest else ""
        for method in ("gzip", "zstd"):
            if said.endswith(method):
                return f"{LAYER_TYPE}+{method}"
        assert self._places is not None
        assert self._compressed is not None
        recipe = self._compressed.recipes.get(diff_id)
        if recipe is not None and recipe.digest == digest:
            return f"{LAYER_TYPE}+gzip"
        found = detect(self._places.start_of(digest))
        return f"{LAYER_TYPE}+{found}" if found else LAYER_TYPE

    def _as_before(self, layer: Layer, digest: str) -> LayerBlob | None:
        """Write the blob with a digest that the layer came with; `None` if it cannot be had any more."""
        assert self._compressed is not None
        if digest == layer.diff_id:  # a registry that had it so gets it so
            has_been = self._places is not None and digest in self._places.candidates(layer)
            return self._plain(layer) if has_been else None
        blobs, recipe = self._compressed.blobs, self._compressed.recipes.get(layer.diff_id)
        if blobs.has(layer.diff_id, digest):
            try:
                size = blobs.size(layer.diff_id, digest)
                start = next(blobs.read(layer.diff_id, digest), b"")
                self._add(digest, size, lambda: self._counted(blobs.read(layer.diff_id, digest)))
                return LayerBlob(digest, size, f"{LAYER_TYPE}+{detect(start)}" if detect(start) else LAYER_TYPE)
            except (BadRecord, WrongSize, FileNotFoundError) as error:
                logger.warning("a kept blob of layer {} cannot be used: {}", layer.diff_id, error)
        if recipe is not None and recipe.digest == digest:
            try:
                self._add(digest, recipe.size, lambda: _checked(recipe, recipe.encode(self._tar_of(layer))))
                # A new manifest is OCI's; types of Docker must not be among its layers.
                is_oci = recipe.media_type.startswith(_OCI_TYPES)
                return LayerBlob(digest, recipe.size, recipe.media_type if is_oci else f"{LAYER_TYPE}+gzip")
            except (WrongSize, _WrongDigest):
                logger.info("layer {}: its compressed form cannot be re-created", layer.diff_id)
        return None

    def _from_elsewhere(self, layer: Layer, digest: str) -> LayerBlob | None:
        """Have a blob in the output with the content that another place has."""
        if self._places is None or (found := self._places.elsewhere(layer, digest)) is None:
            return None
        size, chunks = found
        try:
            self._add(digest, size, lambda: self._counted(chunks()))
        except (NotFetched, WrongSize) as error:
            logger.warning("layer {} is compressed anew, and gets another digest: {}", layer.diff_id, error)
            return None
        return self._blob_there(layer, digest, size)

    def _plain(self, layer: Layer) -> LayerBlob:
        size, digest = layer.tar_size(), str(layer.diff_id)
        if (blob := self._there(layer, digest)) is not None:
            return blob
        try:
            self._add(digest, size, lambda: self._tar_of(layer))
        except WrongSize:
            raise IntegrityError(
                f"the tar of layer {layer.chain_id} does not have {size} bytes, as its records say; "
                "'layerstore check --full' finds the damage"
            ) from None
        return LayerBlob(digest, size, LAYER_TYPE)

    def _compress(self, layer: Layer, compression: Compression) -> LayerBlob:
        """Compress a layer to a temporary file, because its digest and size are its place and its header."""
        found = hashlib.sha256()
        size = 0
        with inside.temporary_file(self._store.context.scratch_directory()) as spool:
            # gzip uses all processors for one layer.
            with self._compressing if compression.method == "gzip" else nullcontext():
                for chunk in compression.compress(self._watched(layer, self._tar_of(layer))):
                    found.update(chunk)
                    size += len(chunk)
                    write_all(spool.fileno(), chunk)
            blob = LayerBlob(f"sha256:{found.hexdigest()}", size, f"{LAYER_TYPE}{compression.suffix}")
            if self._made is not None and not self._stopped.is_set():
                self._made(layer, blob, compression, spool)
            if self._there(layer, blob.digest) is None:
                self._add(blob.digest, size, lambda: _read(spool))
        return blob

    def _add(self, digest: str, size: int, chunks: Callable[[], Iterator[bytes]]) -> None:
        """Write a blob, unless it is in the output."""
        if digest not in self._written:
            self._output.add(self._path_of(digest), size, Again(chunks))
            self._written.add(digest)

    def _watched(self, layer: Layer, chunks: Iterator[bytes]) -> Iterator[bytes]:
        done = 0
        for chunk in chunks:
            done += len(chunk)
            if self._reading is not None:
                self._reading(layer, done)
            yield chunk

    def _tar_of(self, layer: Layer) -> Iterator[bytes]:
        with closing(layer.tar_stream()) as stream:
            yield from self._counted(iter(lambda: stream.read(_CHUNK), b""))

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._stopped.is_set():
                raise _Stopped
            with self._lock:
                self._bytes += len(chunk)
                if self._progress is not None:
                    self._progress(self._bytes, 0)
            yield chunk


def _read(file: BinaryIO) -> Iterator[bytes]:
    position = 0
    while chunk := os.pread(file.fileno(), _CHUNK, position):
        position += len(chunk)
        yield chunk


def _checked(recipe: Recipe, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass chunks through, and compare their digest with the recipe's at the end."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if f"sha256:{digest.hexdigest()}" != recipe.digest:
        raise _WrongDigest(recipe.digest)
