"""Saving images as an archive for `docker load`, or as an OCI layout.

Both have the files of an OCI layout. The archive for Docker also has `manifest.json`, which Docker 25 and newer write
and older versions read. Layers are saved uncompressed, so that their digests are the config's diff IDs. In an OCI
layout, a layer that was compressed when it was loaded gets its old digest, if it can be re-created (see `recipe`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, BinaryIO, Final

from layerstore_core.errors import IntegrityError, LayerStoreError
from layerstore_core.images.formats.oci_layout import NAME_ANNOTATION, REF_ANNOTATION
from layerstore_core.images.image import Image, text_of
from layerstore_core.images.output import Output, WrongSize
from layerstore_core.images.recipe import Recipe, Recipes
from layerstore_core.images.reference import Reference
from layerstore_core.log import logger
from layerstore_core.store.handles import Layer
from layerstore_core.store.registration import Progress
from layerstore_core.store.store import LayerStore

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_CHUNK: Final = 1 << 20


class _WrongDigest(LayerStoreError):
    """The blob that a recipe has made does not have the recipe's digest."""


class Saver:
    """A writer of images to one output.

    Args:
        store: the store of the images.
        output: the archive or directory to write to.
        recipes: the recipes for compressed layers; with `None` all layers are saved uncompressed.
        progress: called now and then with the bytes of layers written so far.
    """

    def __init__(
        self, store: LayerStore, output: Output, recipes: Recipes | None, progress: Progress | None = None
    ) -> None:
        self._store = store
        self._output = output
        self._recipes = recipes
        self._progress = progress
        self._bytes = 0
        self._blobs: set[str] = set()
        self._layers: dict[str, dict[str, Any]] = {}
        self._docker: list[dict[str, Any]] = []
        self._index: list[dict[str, Any]] = []

    def add(self, image: Image, names: Sequence[str]) -> None:
        """Write an image's blobs.

        Args:
            image: the image.
            names: its names in the output.

        Raises:
            LayerDoesNotExist: a layer is missing.
            IntegrityError: a layer is damaged.
            OSError: the output cannot be written.
        """
        layers = []
        for chain_id in image.chain_ids:
            with self._store.get(chain_id) as layer:
                if layer.diff_id not in self._layers:
                    self._layers[layer.diff_id] = self._write_layer(layer)
                layers.append(self._layers[layer.diff_id])
        config = self._write(image.config.data, CONFIG_TYPE)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers}
        descriptor = self._write(_json(manifest), MANIFEST_TYPE)
        platform = {
            key: found for key in ("architecture", "os", "variant") if (found := text_of(image.config.document, key))
        }
        if platform:
            descriptor["platform"] = platform
        for name in names or (None,):
            entry = dict(descriptor)
            if name is not None:
                reference = Reference.parse(name)
                entry["annotations"] = {NAME_ANNOTATION: reference.full_name}
                if reference.tag:
                    entry["annotations"][REF_ANNOTATION] = reference.tag
            self._index.append(entry)
        self._docker.append(
            {
                "Config": _path(config["digest"]),
                "RepoTags": [name for name in names if "@" not in name] or None,
                "Layers": [_path(layer["digest"]) for layer in layers],
            }
        )

    def finish(self, *, docker: bool) -> None:
        """Write the list of images: `index.json` and `oci-layout`.

        Args:
            docker: whether to write `manifest.json` for `docker load` too.
        """
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": self._index}
        self._write_file("index.json", _json(index))
        if docker:
            self._write_file("manifest.json", _json(self._docker))
        self._write_file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))

    def _write_layer(self, layer: Layer) -> dict[str, Any]:
        """Write a layer's blob, compressed by its recipe if there is one; return its descriptor."""
        recipe = self._recipes.get(layer.diff_id) if self._recipes else None
        if recipe is not None:
            try:
                with closing(layer.tar_stream()) as stream:
                    encoded = _checked(recipe, recipe.encode(self._pieces(stream)))
                    self._output.add(_path(recipe.digest), recipe.size, encoded)
                return {"mediaType": recipe.media_type, "digest": recipe.digest, "size": recipe.size}
            except (WrongSize, _WrongDigest):
                logger.info(
                    "layer {}: its compressed form cannot be re-created; it is saved uncompressed", layer.diff_id
                )
        size = layer.tar_size()
        try:
            with closing(layer.tar_stream()) as stream:
                self._output.add(_path(layer.diff_id), size, self._pieces(stream))
        except WrongSize:
            raise IntegrityError(
                f"the tar of layer {layer.chain_id} does not have {size} bytes, as its records say; "
                "'layerstore check --full' finds the damage"
            ) from None
        return {"mediaType": LAYER_TYPE, "digest": str(layer.diff_id), "size": size}

    def _pieces(self, stream: BinaryIO) -> Iterator[bytes]:
        while chunk := stream.read(_CHUNK):
            self._bytes += len(chunk)
            if self._progress is not None:
                self._progress(self._bytes, 0)
            yield chunk

    def _write(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if digest not in self._blobs:
            self._blobs.add(digest)
            self._write_file(_path(digest), data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _write_file(self, path: str, data: bytes) -> None:
        self._output.add(path, len(data), [data])


def _checked(recipe: Recipe, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass chunks through, and compare their digest with the recipe's at the end."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if f"sha256:{digest.hexdigest()}" != recipe.digest:
        raise _WrongDigest(recipe.digest)


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
