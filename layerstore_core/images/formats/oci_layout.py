"""Finding the images in an OCI layout, from its `index.json`.

Source: the OCI image specification 1.1 (`image-layout.md`, `image-index.md`, `manifest.md`). As it requires, items of
unknown types are skipped: besides images, a layout may contain signatures, attestations and any other artifacts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from layerstore_core.base.digests import ChainID, chain_ids
from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidImage, InvalidReference
from layerstore_core.images.formats.container import TooMuch
from layerstore_core.images.formats.documents import ConfigDocument, Descriptor, Documents
from layerstore_core.images.formats.found import (
    MAX_IMAGES,
    MAX_LAYERS,
    MAX_NAMES,
    Candidate,
    ImageFiles,
    LayerFile,
    ManifestFiles,
    NotLoadable,
    Skipped,
)
from layerstore_core.images.formats.platforms import Platform

#: How deep indexes may be nested in indexes.
MAX_NESTING: Final = 8
#: containerd's annotation, with an image's complete name.
NAME_ANNOTATION: Final = "io.containerd.image.name"
#: The specification's annotation, often with only a tag.
REF_ANNOTATION: Final = "org.opencontainers.image.ref.name"

#: Media types of indexes, OCI's and Docker's.
INDEX_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
#: From drafts of version 1.1 of the specification.
_ARTIFACT_TYPE: Final = "application/vnd.oci.artifact.manifest.v1+json"
#: Media types of images' configs.
CONFIG_TYPES: Final = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",  # written by the first clients of the format
    "",
)
#: `…layer.v1.tar+gzip`, `…rootfs.diff.tar.gzip`, `…layer.nondistributable.v1.tar`. The "layers" of cosign and other
#: artifacts are not tars.
_LAYER_TYPE = re.compile(r"(?:.*[.+])?tar(?:[.+].*)?", re.ASCII)
#: BuildKit stores an image's attestations next to it, in manifests that are not images.
_ATTESTATION_ANNOTATION: Final = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class _Top:
    """An entry of the outermost index, and its names; labels and `what` are as in `Candidate`."""

    descriptor: Descriptor
    names: tuple[Reference, ...]
    labels: frozenset[str]
    what: str


def layout_images(
    documents: Documents, index: Any, skipped: list[Skipped], where: str = "index.json"
) -> list[Candidate]:
    """Find the images in an OCI layout.

    Args:
        documents: the documents of the layout.
        index: its outermost index, parsed.
        skipped: invalid names of images are added here.
        where: the name of the index in messages.

    Raises:
        InvalidImage: the document is not an index.
        TooMuch: there are too many manifests, names or layers.
    """
    if not isinstance(index, dict):
        raise InvalidImage(f"{documents.name}: {where} is not a JSON object")
    reader = _Reader(documents)
    found: list[Candidate] = []
    names = 0
    for number, item in enumerate(reader.entries(index, where), 1):
        what = f"entry {number} of {where}"
        try:
            descriptor = Descriptor.of(item, documents.name)
        except InvalidImage as error:
            found.append(_no_candidate(what, as_not_loadable(error, documents)))
            continue
        label = str(descriptor.annotations.get(REF_ANNOTATION) or "")
        top = _Top(
            descriptor,
            _names_of(descriptor, skipped),
            frozenset(filter(None, [label, descriptor.digest])),
            descriptor.digest,
        )
        names += len(top.names)
        if names > MAX_NAMES:
            raise TooMuch(f"{documents.name}: {where} has more than {MAX_NAMES} names of images")
        if reader.is_index(descriptor):
            group: str | None = f"index {number}"
        else:
            key = str(top.names[0]) if top.names else str(descriptor.annotations.get(NAME_ANNOTATION) or label)
            group = f"name {key}" if key else ""
        found += reader.candidates(descriptor, top, group)
    return found


def check_image(documents: Documents, config: ConfigDocument, count: int) -> None:
    """Check that an image can be loaded on this system.

    Args:
        documents: the documents of its container.
        config: its config.
        count: the number of its layers in the manifest.

    Raises:
        NotLoadable: it is an attestation, or an image for another operating system.
        InvalidImage: its config names more or fewer layers.
    """
    system = str(config.document.get("os") or "linux").lower()
    if system == "unknown":
        raise NotLoadable("attestation", "an attestation, not an image")
    if system != "linux":
        raise NotLoadable("platform", f"the image is for another operating system: {system!r}")
    if count != len(config.diff_ids):
        raise InvalidImage(
            f"{documents.name}: image {config.image_id} has {count} layers, but its config names {len(config.diff_ids)}"
        )


def is_layer_type(media_type: str) -> bool:
    """Return whether a media type is that of a layer: a tar, compressed or not."""
    return _LAYER_TYPE.fullmatch(media_type) is not None


def as_not_loadable(error: InvalidImage, documents: Documents) -> NotLoadable:
    """Convert the error of one image to the reason why it is skipped.

    Raises:
        TooMuch: the error concerns the whole archive.
    """
    if isinstance(error, TooMuch):
        raise error
    if isinstance(error, NotLoadable):
        return error
    return NotLoadable("invalid", str(error).removeprefix(f"{documents.name}: "))


class _Reader:
    """A reader of indexes and manifests. It limits the number of manifests and layers of all of them together."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._manifests = 0
        self._layers = 0
        self._images: dict[str, tuple[str, Platform | None, ImageFiles] | NotLoadable] = {}

    def entries(self, index: Mapping[str, Any], where: str) -> list[Any]:
        listed = index.get("manifests")
        if not isinstance(listed, list):
            raise InvalidImage(f"{self._documents.name}: {where} has no list of manifests")
        self._manifests += len(listed)
        if self._manifests > MAX_IMAGES:
            raise TooMuch(f"{self._documents.name}: the indexes list more than {MAX_IMAGES} manifests")
        return listed

    def is_index(self, descriptor: Descriptor) -> bool:
        if descriptor.media_type:
            return descriptor.media_type in INDEX_TYPES
        try:
            return "manifests" in self._documents.json_blob(descriptor)
        except InvalidImage as error:  # reported when the document is read as a manifest
            as_not_loadable(error, self._documents)  # raises an error that concerns the whole archive
            return False

    def candidates(
        self, descriptor: Descriptor, top: _Top, group: str | None, indexes: tuple[Descriptor, ...] = ()
    ) -> Iterator[Candidate]:
        """Yield the candidates that a descriptor leads to, directly or through indexes."""
        try:
            if not self.is_index(descriptor):
                yield self._image(descriptor, top, group, indexes)
                return
            if len(indexes) == MAX_NESTING:
                raise InvalidImage(f"{self._documents.name}: indexes are nested more than {MAX_NESTING} deep")
            _check_descriptor(descriptor)
            index = self._documents.json_blob(descriptor)
            if kind := _artifact_type(index):
                raise NotLoadable("artifact", f"an artifact, not an image: {kind}")
            entries = self.entries(index, descriptor.path)
        except InvalidImage as error:
            yield _no_candidate(top.what, as_not_loadable(error, self._documents), top, group)
            return
        for number, item in enumerate(entries, 1):
            try:
                inner = Descriptor.of(item, f"{self._documents.name}: {descriptor.path}")
            except InvalidImage as error:
                yield _no_candidate(f"{top.what}, entry {number}", as_not_loadable(error, self._documents), top, group)
            else:
                yield from self.candidates(inner, top, group, (*indexes, descriptor))

    def _image(
        self, descriptor: Descriptor, top: _Top, group: str | None, indexes: tuple[Descriptor, ...]
    ) -> Candidate:
        labels = {descriptor.digest}
        platform = descriptor.platform
        found: ImageFiles | NotLoadable
        if descriptor.digest not in self._images:
            self._images[descriptor.digest] = self._read(descriptor)
        result = self._images[descriptor.digest]
        if isinstance(result, NotLoadable):
            found = result
        else:
            config_digest, config_platform, found = result
            labels.add(config_digest)
            labels.add(found.config.image_id)
            platform = config_platform or platform
            found = replace(found, source=ManifestFiles(descriptor, top.descriptor, indexes))
        return Candidate(
            ", ".join(map(str, top.names)) or descriptor.digest,
            group,
            top.names,
            frozenset(labels),
            top.labels,
            platform,
            found,
        )

    def _read(self, descriptor: Descriptor) -> tuple[str, Platform | None, ImageFiles] | NotLoadable:
        try:
            _check_descriptor(descriptor)
            return self._files(descriptor)
        except InvalidImage as error:
            return as_not_loadable(error, self._documents)

    def _files(self, descriptor: Descriptor) -> tuple[str, Platform | None, ImageFiles]:
        where = f"{self._documents.name}: {descriptor.path}"
        manifest = self._documents.json_blob(descriptor)
        if (known := _text(manifest, "mediaType")) not in (*_MANIFEST_TYPES, _ARTIFACT_TYPE, ""):
            raise NotLoadable("unknown-type", f"{known!r} is not the media type of an image")
        if manifest.get("schemaVersion") == 1:
            raise NotLoadable(
                "unknown-type",
                "an image in the old format (schema 1), which is not supported; save it with a newer program",
            )
        kind = _artifact_type(manifest) or (known if known == _ARTIFACT_TYPE else "")
        listed = manifest.get("layers")
        config_descriptor = None
        if not kind:
            if not isinstance(listed, list):
                raise InvalidImage(f"{where} has no list of layers")
            config_descriptor = Descriptor.of(manifest.get("config"), where)
            kind = "" if config_descriptor.media_type in CONFIG_TYPES else config_descriptor.media_type[:200]
        layers = [] if kind else [Descriptor.of(item, where) for item in listed or ()]
        self._layers += len(layers)
        if self._layers > MAX_LAYERS:
            raise TooMuch(f"{self._documents.name}: the images have more than {MAX_LAYERS} layers together")
        for layer in layers:
            if layer.media_type and not is_layer_type(layer.media_type):
                if "in-toto" in layer.media_type:
                    raise NotLoadable("attestation", "an attestation, not an image")
                kind = kind or layer.media_type[:200]
        if kind or config_descriptor is None:
            subject = _text(manifest.get("subject"), "digest")
            raise NotLoadable(
                "artifact", f"an artifact, not an image: {kind}" + (f", which belongs to {subject}" if subject else "")
            )
        for layer in layers:
            if "encrypted" in layer.media_type:
                raise InvalidImage(f"{where}: layer {layer.digest} is encrypted; decrypt the image first")
        config = self._documents.config_blob(config_descriptor)
        check_image(self._documents, config, len(layers))
        chains = chain_ids(config.diff_ids)
        files = tuple(
            LayerFile(layer.path, diff_id, layer, self._is_present(layer, chain))
            for layer, diff_id, chain in zip(layers, config.diff_ids, chains, strict=True)
        )
        return config_descriptor.digest, Platform.from_document(config.document), ImageFiles(config, files)

    def _is_present(self, layer: Descriptor, chain: ChainID) -> bool:
        """Return whether a layer's blob is there; a layer that the store has may be missing (a thin layout)."""
        try:
            self._documents.check_size(layer)
        except InvalidImage:
            if layer.path in self._documents.container or not self._documents.has_layer(chain):
                raise
            return False
        return True


def is_attestation(descriptor: Descriptor) -> bool:
    """Return whether an entry of an index is an attestation of another one, as BuildKit stores it."""
    return _ATTESTATION_ANNOTATION in descriptor.annotations or bool(
        descriptor.platform and not descriptor.platform.known
    )


def _check_descriptor(descriptor: Descriptor) -> None:
    """Check, from its descriptor alone, that an item may be an image.

    Raises:
        NotLoadable: it is not an image, or is one for another operating system.
    """
    kind = _artifact_type(descriptor.document)
    if is_attestation(descriptor):
        raise NotLoadable("attestation", "an attestation, not an image")
    if kind or descriptor.media_type == _ARTIFACT_TYPE:
        raise NotLoadable("artifact", f"an artifact, not an image: {kind or descriptor.media_type}")
    if descriptor.media_type and descriptor.media_type not in (*_MANIFEST_TYPES, *INDEX_TYPES):
        raise NotLoadable("unknown-type", f"{descriptor.media_type[:200]!r} is not the media type of an image")
    if descriptor.platform and descriptor.platform.os != "linux":
        raise NotLoadable("platform", f"the image is for another operating system: {descriptor.platform.os!r}")


def _no_candidate(what: str, error: NotLoadable, top: _Top | None = None, group: str | None = None) -> Candidate:
    names, labels = (top.names, top.labels) if top else ((), frozenset[str]())
    return Candidate(what, group, names, labels, labels, None, error)


def _names_of(descriptor: Descriptor, skipped: list[Skipped]) -> tuple[Reference, ...]:
    """Return the image's name from the annotations, if there is a valid one."""
    name = str(descriptor.annotations.get(NAME_ANNOTATION) or "")
    label = str(descriptor.annotations.get(REF_ANNOTATION) or "")
    if name:
        try:
            reference = Reference.parse(name)
        except InvalidReference as error:
            skipped.append(Skipped(name[:300], "name", str(error)))
        else:
            # umoci copies the annotations of the image that a new one is made from, and sets the new tag here only.
            if reference.digest is None and label not in ("", reference.tag) and not set("/:@") & set(label):
                with suppress(InvalidReference):  # the specification also allows other texts than tags
                    return (Reference.parse(f"{reference.repository}:{label}"),)
            return (reference,)
    # A single word is the tag of an image whose name the layout does not say.
    if ":" not in label and "/" not in label:
        return ()
    try:
        return (Reference.parse(label),)
    except InvalidReference:  # the specification also allows other texts here
        return ()


def _artifact_type(document: Mapping[str, Any]) -> str:
    """Return the type of an artifact; "" for an image, for which registries write the config's type here."""
    kind = _text(document, "artifactType")
    return "" if kind in CONFIG_TYPES else kind


def _text(document: Any, key: str) -> str:
    found = document.get(key) if isinstance(document, dict) else None
    return found[:200] if isinstance(found, str) else ""
