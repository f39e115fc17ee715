"""Saving images as an archive for `docker load`, as an OCI layout, or as a `dir:` layout of Skopeo.

The first two have the files of an OCI layout. The archive for Docker also has `manifest.json`, which Docker 25 and
newer write and older versions read.

A manifest that came in with an image goes out byte for byte if all its layers get the digests that it names (see
`keep`). Otherwise a new manifest is made. In an archive for Docker layers are not compressed, unless that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from layerstore_core.base.digests import ImageID
from layerstore_core.base.reference import Reference
from layerstore_core.base.replace_file import is_stream
from layerstore_core.errors import LayerStoreError
from layerstore_core.images.arguments import ImageFormat
from layerstore_core.images.formats.oci_layout import INDEX_TYPES, NAME_ANNOTATION, REF_ANNOTATION
from layerstore_core.images.image import Image, text_of
from layerstore_core.images.keep.compressed import CompressedLayers
from layerstore_core.images.keep.compression import Compression
from layerstore_core.images.keep.incoming import related
from layerstore_core.images.keep.layer_blobs import LayerBlobs
from layerstore_core.images.keep.outgoing import Outgoing, annotations_in, kept_manifest, origin_of, parsed, tree_of
from layerstore_core.images.output import BinaryWriter, Output, archive_at, directory_at
from layerstore_core.images.results import SavedManifest
from layerstore_core.log import logger
from layerstore_core.records.kept import Origin, digest_of, is_shallow
from layerstore_core.store.registration.layer import Progress
from layerstore_core.store.store import LayerStore

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
_INDEX_TYPE: Final = INDEX_TYPES[0]
#: The longest path of a member of an archive: a field of the ustar format.
_LONGEST_PATH: Final = 100
#: Skopeo writes this to the file `version`.
_DIR_VERSION: Final = b"Directory Transport Version: 1.1\n"


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """How images are saved.

    Attributes:
        form: the format; `"registry"` for a registry, to which the caller writes the documents.
        compression: how to compress all layers; `None`: as they came, or not at all in an archive for Docker.
        referrers: whether to write the referrers of manifests and indexes, too.
        progress: called now and then with the bytes of layers read so far.
    """

    form: ImageFormat | Literal["registry"]
    compression: Compression | None = None
    referrers: bool = False
    progress: Progress | None = None


def save_images(
    store: LayerStore,
    images: Sequence[tuple[Outgoing, Sequence[Image]]],
    where: str | BinaryWriter,
    options: SaveOptions,
    compressed: CompressedLayers,
) -> list[SavedManifest]:
    """Write images to an archive or a layout, which appears whole or not at all; errors as `Images.save`.

    Args:
        store: the store of the images.
        images: what is to be saved, each with its images in the same order.
        where: the path, or a file object.
        options: how they are saved.
        compressed: what is known of layers as they came compressed.

    Returns:
        Their manifests.
    """
    in_directory = options.form == "dir" or (
        options.form == "oci" and isinstance(where, str) and not (where.endswith(".tar") or is_stream(where))
    )
    if in_directory and (not isinstance(where, str) or is_stream(where)):
        raise ValueError('the format "dir" is a directory: give the path of a new one')
    with (
        directory_at(cast("str", where))
        if in_directory
        else archive_at(where, spool_dir=store.context.scratch_directory())
    ) as output:
        saver = Saver(store, output, options, compressed)
        for out, members in images:
            saver.add(out, members)
        saver.finish()
    return list(saver.manifests.values())


class Saver:
    """A writer of images to one output.

    Args:
        store: the store of the images.
        output: the archive or directory to write to.
        options: how they are saved.
        compressed: what is known of layers as they came compressed.
        **layers: more arguments of `LayerBlobs`.

    Attributes:
        manifests: the manifests in the output, by image.
        documents: the manifests and indexes, by digest. They are written last; see `finish`.
        entries: the entries of the layout's index: the images, and referrers.
    """

    def __init__(
        self, store: LayerStore, output: Output, options: SaveOptions, compressed: CompressedLayers, **layers: Any
    ) -> None:
        self._store = store
        self._kept = store.context.kept
        self._output = output
        self._form = options.form
        self._with_referrers = options.referrers
        #: Digests of the blobs in the output. Manifests are written at the end: see `_document_path`.
        self._blobs: set[str] = set()
        self.documents: dict[str, bytes] = {}
        self._layers = LayerBlobs(
            store,
            output,
            self._blob_path,
            written=self._blobs,
            compressed=None if options.form == "docker" else compressed,
            compression=options.compression,
            progress=options.progress,
            **layers,
        )
        self._docker: dict[ImageID, dict[str, Any]] = {}
        self.entries: list[dict[str, Any]] = []
        self._known: dict[tuple[ImageID, str | None, str], tuple[dict[str, Any], bool]] = {}
        self.manifests: dict[ImageID, SavedManifest] = {}

    def add(self, out: Outgoing, images: Sequence[Image]) -> None:
        """Write the blobs of an image, or of the images for several platforms under one name.

        Args:
            out: what is to be saved.
            images: its images, in the same order.

        Raises:
            LayerDoesNotExist: a layer is missing.
            IntegrityError: a layer is damaged.
            LayerStoreError: its referrers are wanted, and refer to a manifest that cannot be given back.
            OSError: the output cannot be written.
        """
        described = [self._manifest(image, out.origin) for image in images]
        given = {descriptor["digest"] for descriptor, as_loaded in described if as_loaded}
        entry = self._kept_index(out, given) or (
            self._new_index(out, images, described) if len(images) > 1 else self._single(out, images[0], *described[0])
        )
        if entry["mediaType"] in INDEX_TYPES:
            given.add(entry["digest"])
        annotations = {
            key: value for key, value in annotations_in(entry).items() if key not in (NAME_ANNOTATION, REF_ANNOTATION)
        }
        if out.name is not None:
            reference = Reference.parse(out.name)
            annotations[NAME_ANNOTATION] = reference.full_name
            if reference.tag:
                annotations[REF_ANNOTATION] = reference.tag
        entry = {key: value for key, value in entry.items() if key != "annotations"}
        self.entries.append({**entry, "annotations": annotations} if annotations else entry)
        if self._form == "docker":
            self._add_docker(images[0], out.name)
        if self._with_referrers and out.origin is not None:
            self._add_referrers(out, given)

    def finish(self) -> None:
        """Write the manifests and the lists of images.

        Raises:
            OSError: the output cannot be written.
        """
        for digest, data in self.documents.items():
            self._write_file(self._document_path(digest), data)
        if self._form == "dir":
            self._write_file("version", _DIR_VERSION)
            return
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": self.entries}
        self._write_file("index.json", _json(index))
        if self._form == "docker":
            self._write_file("manifest.json", _json(list(self._docker.values())))
        self._write_file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))

    def _manifest(self, image: Image, origin: Origin | None) -> tuple[dict[str, Any], bool]:
        """Write an image's layers and config; return its manifest's descriptor, and whether that is as it came in."""
        own = {} if origin is None else dict(origin.annotations)
        key = image.image_id, origin.images.get(image.image_id) if origin else None, json.dumps(own, sort_keys=True)
        if key not in self._known:
            self._known[key] = self._write_manifest(image, origin, own)
        descriptor, as_loaded = self._known[key]
        self.manifests[image.image_id] = SavedManifest(image.image_id, descriptor["digest"], as_loaded)
        return descriptor, as_loaded

    def _write_manifest(
        self, image: Image, origin: Origin | None, annotations: dict[str, str]
    ) -> tuple[dict[str, Any], bool]:
        kept = kept_manifest(self._kept, origin, image.image_id)
        wanted = [None] * len(image.diff_ids) if kept is None else _layer_digests(kept[1], image)
        with ExitStack() as handles:
            found = [handles.enter_context(self._store.get(chain_id)) for chain_id in image.chain_ids]
            layers = self._layers.write(list(zip(found, wanted, strict=True)))
        config = self._write_blob(image.config.data, CONFIG_TYPE)
        fits = kept is not None and _config_digest(kept[1]) == image.image_id
        if kept is not None and fits and wanted == [layer.digest for layer in layers]:
            return self._add_document(kept[0], str(kept[1].get("mediaType") or MANIFEST_TYPE)), True
        if kept is not None:
            annotations = annotations_in(kept[1])
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config,
            "layers": [layer.descriptor() for layer in layers],
        }
        if annotations:
            manifest["annotations"] = annotations
        return self._add_document(_json(manifest), MANIFEST_TYPE), False

    def _single(self, out: Outgoing, image: Image, descriptor: dict[str, Any], as_loaded: bool) -> dict[str, Any]:
        """Return the entry for one manifest: with what the entry had that it came in with."""
        for origin in (out.origin, origin_of(self._kept, image.image_id, None) if as_loaded else None):
            if origin is not None and origin.target is not None and origin.digest == descriptor["digest"]:
                return {**descriptor, **_platform(image), **origin.target}
        return {**descriptor, **_platform(image)}

    def _kept_index(self, out: Outgoing, given: set[str]) -> dict[str, Any] | None:
        """Return the entry for the index that came in, if all that it lists is in the output, or can be."""
        origin = out.origin
        if self._form == "docker" or origin is None or origin.target is None or origin.digest is None:
            return None
        if origin.digest in origin.images.values() or not given:
            return None
        documents = tree_of(self._kept, origin.digest, given=given)
        if documents is None:
            return None
        self._add_tree(documents)
        return {"mediaType": _INDEX_TYPE, "size": len(self.documents[origin.digest]), **origin.target}

    def _new_index(
        self, out: Outgoing, images: Sequence[Image], described: Sequence[tuple[dict[str, Any], bool]]
    ) -> dict[str, Any]:
        before: dict[str, Any] = {}
        if out.origin is not None and out.origin.digest is not None:
            try:
                before = parsed(self._kept, out.origin.digest)
            except (LayerStoreError, OSError) as error:
                logger.warning("the index of {} cannot be read; a new one is made: {}", out.name, error)
        listed = before.get("manifests")
        entries = (
            {str(one.get("digest")): one for one in listed if isinstance(one, dict) and is_shallow(one)}
            if isinstance(listed, list)
            else {}
        )
        index: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": _INDEX_TYPE,
            "manifests": [
                {**descriptor, **_platform(image), **(entries.get(descriptor["digest"], {}) if as_loaded else {})}
                for image, (descriptor, as_loaded) in zip(images, described, strict=True)
            ],
        }
        if annotations := annotations_in(before):
            index["annotations"] = annotations
        return self._add_document(_json(index), _INDEX_TYPE)

    def _add_docker(self, image: Image, name: str | None) -> None:
        """Add an image, or another name of it, to Docker's list."""
        if image.image_id not in self._docker:
            digest = self.manifests[image.image_id].digest
            manifest = json.loads(self.documents[digest])
            self._docker[image.image_id] = {
                "Config": self._blob_path(manifest["config"]["digest"]),
                "RepoTags": None,
                "Layers": [self._blob_path(layer["digest"]) for layer in manifest["layers"]],
            }
        entry = self._docker[image.image_id]
        if name is not None and "@" not in name:
            entry["RepoTags"] = [*(entry["RepoTags"] or []), name]

    def _add_referrers(self, out: Outgoing, given: set[str]) -> None:
        """Write what refers to manifests and indexes in the output."""
        origin = out.origin
        assert origin is not None
        asked = {digest for image in out.images if (digest := origin.images.get(image)) is not None}
        numbers = related(origin.referrers, given)
        if lost := sorted(set(related(origin.referrers, asked)) - set(numbers)):
            subject = origin.referrers[lost[0]].subject
            raise LayerStoreError(
                f"image {out.name or out.images[0]}: {len(lost)} referrers cannot be saved, because {subject}, which "
                "they refer to, cannot be given back with its digest: a layer cannot be compressed as it was. Save "
                "without referrers, or set keep_blobs and load the image again"
            )
        if left := len(origin.referrers) - len(numbers):
            logger.warning(
                "{}: {} referrers are left out: they refer to an index, or to the image for another platform, that is "
                "not saved; load and save it with --all-platforms",
                out.name or out.images[0],
                left,
            )
        listed = {entry["digest"] for entry in self.entries}
        inside = {digest for one in given for digest in self._entries_of(one)}
        for number in numbers:
            referrer = origin.referrers[number]
            documents = tree_of(self._kept, referrer.digest)
            if documents is None:
                raise LayerStoreError(
                    f"image {out.name or out.images[0]}: the referrer {referrer.digest} is missing or damaged in the "
                    "store; `layerstore check` says more. Save without referrers, or load the image again"
                )
            self._add_tree(documents)
            if referrer.digest not in listed and referrer.digest not in inside:
                listed.add(referrer.digest)
                self.entries.append(dict(referrer.descriptor))

    def _entries_of(self, digest: str) -> list[str]:
        """Return what an index in the output lists; nothing for a manifest."""
        entries = json.loads(self.documents[digest]).get("manifests")
        return [str(entry.get("digest")) for entry in entries] if isinstance(entries, list) else []

    def _add_tree(self, digests: Sequence[str]) -> None:
        """Write kept documents: manifests and indexes at the end, other blobs now."""
        for digest in digests:
            data = self._kept.read(digest)
            if self._is_manifest(digest):
                self.documents.setdefault(digest, data)
            elif digest not in self._blobs:
                self._blobs.add(digest)
                self._write_file(self._blob_path(digest), data)

    def _is_manifest(self, digest: str) -> bool:
        try:
            document = parsed(self._kept, digest)
        except LayerStoreError:
            return False
        return document.get("schemaVersion") == 2 and ("manifests" in document or "layers" in document)

    def _write_blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = digest_of(data)
        if digest not in self._blobs:
            self._blobs.add(digest)
            self._write_file(self._blob_path(digest), data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _add_document(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = digest_of(data)
        self.documents[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _blob_path(self, digest: str) -> str:
        if self._form == "dir":
            return digest.removeprefix("sha256:").replace(":", "-")
        return f"blobs/{digest.replace(':', '/')}"

    def _document_path(self, digest: str) -> str:
        """Return the path of a manifest or an index. In a `dir:` layout the outermost has a fixed name."""
        if self._form != "dir":
            return self._blob_path(digest)
        return "manifest.json" if digest == self.entries[0]["digest"] else f"{self._blob_path(digest)}.manifest.json"

    def _write_file(self, path: str, data: bytes) -> None:
        if len(path) > _LONGEST_PATH and self._form != "registry":
            raise LayerStoreError(
                f"{path} is too long a name for an archive: a signature or another artifact has a sha512 digest; "
                "save to a directory"
            )
        self._output.add(path, len(data), [data])


def _platform(image: Image) -> dict[str, Any]:
    found = {key: text for key in ("architecture", "os", "variant") if (text := text_of(image.config.document, key))}
    return {"platform": found} if found else {}


def _config_digest(manifest: dict[str, Any]) -> str | None:
    config = manifest.get("config")
    digest = config.get("digest") if isinstance(config, dict) else None
    return digest if isinstance(digest, str) else None


def _layer_digests(manifest: dict[str, Any], image: Image) -> list[str | None]:
    """Return the digests that a kept manifest names for an image's layers; `None` for each where it does not fit."""
    layers = manifest.get("layers")
    if not isinstance(layers, list) or len(layers) != len(image.diff_ids):
        return [None] * len(image.diff_ids)
    found = [layer.get("digest") if isinstance(layer, dict) else None for layer in layers]
    return [digest if isinstance(digest, str) else None for digest in found]


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
