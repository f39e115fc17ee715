"""What images an OCI layout holds, by its `index.json`.

Source: the OCI image specification 1.1 (`image-layout.md`, `image-index.md`, `manifest.md`). What is not known is passed
over, as it asks for: besides images a layout may hold signatures, attestations and any other artifacts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from layerstore_core.errors import InvalidImage, InvalidReference
from layerstore_core.images.formats.container import TooMuch
from layerstore_core.images.formats.documents import Descriptor, Documents, ImageConfig
from layerstore_core.images.formats.found import (
    MAX_IMAGES,
    MAX_LAYERS,
    MAX_NAMES,
    Candidate,
    ImageFiles,
    LayerFile,
    NotTaken,
    Skipped,
)
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.reference import Reference

#: An index in an index in an index …
MAX_NESTING: Final = 8
#: containerd's annotation with an image's whole name.
NAME_ANNOTATION: Final = "io.containerd.image.name"
#: The specification's: often a tag alone.
REF_ANNOTATION: Final = "org.opencontainers.image.ref.name"

_INDEX_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
#: Of the specification's version 1.1 before it was released.
_ARTIFACT_TYPE: Final = "application/vnd.oci.artifact.manifest.v1+json"
_CONFIG_TYPES: Final = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "application/octet-stream",  # of the first clients of the format
    "",
)
#: `…layer.v1.tar+gzip`, `…rootfs.diff.tar.gzip`, `…layer.nondistributable.v1.tar`: what cosign and others put there is no tar.
_LAYER_TYPE = re.compile(r"(?:.*[.+])?tar(?:[.+].*)?", re.ASCII)
#: BuildKit puts what it attests of an image next to it, in manifests that are no images.
_ATTESTATION_ANNOTATION: Final = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class _Top:
    """An entry of the outermost index."""

    names: tuple[Reference, ...]
    labels: frozenset[str]
    what: str


def layout_images(
    documents: Documents, index: Any, skipped: list[Skipped], where: str = "index.json"
) -> list[Candidate]:
    """Find the images in an OCI layout.

    Args:
        documents: its documents.
        index: its outermost index, parsed.
        skipped: gets the names that cannot be images' names.
        where: what that is called in messages.

    Raises:
        InvalidImage: that is no index.
        TooMuch: there are too many manifests.
    """
    if not isinstance(index, dict):
        raise InvalidImage(f"{documents.name}: {where} is no JSON object")
    reader = _Reader(documents)
    found: list[Candidate] = []
    names = 0
    for number, item in enumerate(reader.entries(index, where), 1):
        what = f"entry {number} of {where}"
        try:
            descriptor = Descriptor.of(item, documents.name)
        except InvalidImage as error:
            found.append(_no_candidate(what, not_taken(error, documents)))
            continue
        label = str(descriptor.annotations.get(REF_ANNOTATION) or "")
        top = _Top(
            _names_of(descriptor, skipped), frozenset(filter(None, [label, descriptor.digest])), descriptor.digest
        )
        names += len(top.names)
        if names > MAX_NAMES:
            raise TooMuch(f"{documents.name}: {where} has more than {MAX_NAMES} names of images")
        if reader.is_index(descriptor):
            group: str | None = f"index {number}"
        else:
            key = str(descriptor.annotations.get(NAME_ANNOTATION) or label)
            group = f"name {key}" if key else ""
        found += reader.candidates(descriptor, top, group)
    return found


def check_image(documents: Documents, config: ImageConfig, count: int) -> None:
    """Look whether an image can be loaded here at all.

    Args:
        documents: where it is.
        config: its config.
        count: how many layers it has there.

    Raises:
        NotTaken: it is for another operating system.
        InvalidImage: its config names more or fewer layers.
    """
    system = str(config.document.get("os") or "linux").lower()
    if system == "unknown":
        raise NotTaken("attestation", "an attestation, no image")
    if system != "linux":
        raise NotTaken("platform", f"the image is of another operating system: {system!r}")
    if count != len(config.diff_ids):
        raise InvalidImage(
            f"{documents.name}: image {config.image_id} has {count} layers, but its config names {len(config.diff_ids)}"
        )


def not_taken(error: InvalidImage, documents: Documents) -> NotTaken:
    """Make of an error with one image the reason why that is left out.

    Raises:
        TooMuch: it is an error with the whole.
    """
    if isinstance(error, TooMuch):
        raise error
    if isinstance(error, NotTaken):
        return error
    return NotTaken("invalid", str(error).removeprefix(f"{documents.name}: "))


class _Reader:
    """Reads indexes and manifests; their number is limited over all of them."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._manifests = 0
        self._layers = 0
        self._images: dict[str, tuple[str, Platform | None, ImageFiles] | NotTaken] = {}

    def entries(self, index: Mapping[str, Any], where: str) -> list[Any]:
        listed = index.get("manifests")
        if not isinstance(listed, list):
            raise InvalidImage(f"{self._documents.name}: {where}: it has no list of manifests")
        self._manifests += len(listed)
        if self._manifests > MAX_IMAGES:
            raise TooMuch(f"{self._documents.name}: its indexes name more than {MAX_IMAGES} manifests")
        return listed

    def is_index(self, descriptor: Descriptor) -> bool:
        if descriptor.media_type:
            return descriptor.media_type in _INDEX_TYPES
        try:
            return "manifests" in self._documents.json_blob(descriptor)
        except InvalidImage as error:  # told when it is read
            not_taken(error, self._documents)
            return False

    def candidates(self, descriptor: Descriptor, top: _Top, group: str | None, depth: int = 0) -> Iterator[Candidate]:
        """The images that a descriptor leads to, perhaps through indexes."""
        try:
            if not self.is_index(descriptor):
                yield self._image(descriptor, top, group)
                return
            if depth == MAX_NESTING:
                raise InvalidImage(f"{self._documents.name}: indexes are nested more than {MAX_NESTING} deep")
            _check_descriptor(descriptor)
            index = self._documents.json_blob(descriptor)
            if kind := _artifact_type(index):
                raise NotTaken("artifact", f"an artifact, no image: {kind}")
            offered = self.entries(index, descriptor.path)
        except InvalidImage as error:
            yield _no_candidate(top.what, not_taken(error, self._documents), top, group)
            return
        for number, item in enumerate(offered, 1):
            try:
                inner = Descriptor.of(item, f"{self._documents.name}: {descriptor.path}")
            except InvalidImage as error:
                yield _no_candidate(f"{top.what}, entry {number}", not_taken(error, self._documents), top, group)
            else:
                yield from self.candidates(inner, top, group, depth + 1)

    def _image(self, descriptor: Descriptor, top: _Top, group: str | None) -> Candidate:
        labels = {descriptor.digest}
        platform = descriptor.platform
        found: ImageFiles | NotTaken
        if descriptor.digest not in self._images:
            self._images[descriptor.digest] = self._read(descriptor)
        result = self._images[descriptor.digest]
        if isinstance(result, NotTaken):
            found = result
        else:
            config_digest, told, found = result
            labels.add(config_digest)
            labels.add(found.config.image_id)
            platform = told or platform
        return Candidate(
            ", ".join(map(str, top.names)) or descriptor.digest,
            group,
            top.names,
            frozenset(labels),
            top.labels,
            platform,
            found,
        )

    def _read(self, descriptor: Descriptor) -> tuple[str, Platform | None, ImageFiles] | NotTaken:
        try:
            _check_descriptor(descriptor)
            return self._files(descriptor)
        except InvalidImage as error:
            return not_taken(error, self._documents)

    def _files(self, descriptor: Descriptor) -> tuple[str, Platform | None, ImageFiles]:
        where = f"{self._documents.name}: {descriptor.path}"
        manifest = self._documents.json_blob(descriptor)
        if (known := _text(manifest, "mediaType")) not in (*_MANIFEST_TYPES, _ARTIFACT_TYPE, ""):
            raise NotTaken("unknown-type", f"the media type {known!r} is not one of an image")
        if manifest.get("schemaVersion") == 1:
            raise NotTaken("unknown-type", "an image in the old format, schema 1, which is not read")
        kind = _artifact_type(manifest) or (known if known == _ARTIFACT_TYPE else "")
        listed = manifest.get("layers")
        config_descriptor = None
        if not kind:
            if not isinstance(listed, list):
                raise InvalidImage(f"{where}: it has no list of layers")
            config_descriptor = Descriptor.of(manifest.get("config"), where)
            kind = "" if config_descriptor.media_type in _CONFIG_TYPES else config_descriptor.media_type[:200]
        layers = [] if kind else [Descriptor.of(item, where) for item in listed or ()]
        self._layers += len(layers)
        if self._layers > MAX_LAYERS:
            raise TooMuch(f"{self._documents.name}: its images have more than {MAX_LAYERS} layers together")
        for layer in layers:
            if layer.media_type and not _LAYER_TYPE.fullmatch(layer.media_type):
                if "in-toto" in layer.media_type:
                    raise NotTaken("attestation", "an attestation, no image")
                kind = kind or layer.media_type[:200]
        if kind or config_descriptor is None:
            of = _text(manifest.get("subject"), "digest")
            raise NotTaken("artifact", f"an artifact, no image: {kind}" + (f", which belongs to {of}" if of else ""))
        for layer in layers:
            if "encrypted" in layer.media_type:
                raise InvalidImage(f"{where}: layer {layer.digest} is encrypted; decrypt the image first")
        config = self._documents.config_blob(config_descriptor)
        check_image(self._documents, config, len(layers))
        for layer in layers:
            self._documents.check_size(layer)
        files = tuple(
            LayerFile(layer.path, diff_id, layer) for layer, diff_id in zip(layers, config.diff_ids, strict=True)
        )
        return config_descriptor.digest, Platform.told_by(config.document), ImageFiles(config, files)


def _check_descriptor(descriptor: Descriptor) -> None:
    """Tell what is no image without a look at it."""
    kind = _artifact_type(descriptor.document)
    if _ATTESTATION_ANNOTATION in descriptor.annotations or (descriptor.platform and not descriptor.platform.known):
        raise NotTaken("attestation", "an attestation, no image")
    if kind or descriptor.media_type == _ARTIFACT_TYPE:
        raise NotTaken("artifact", f"an artifact, no image: {kind or descriptor.media_type}")
    if descriptor.media_type and descriptor.media_type not in (*_MANIFEST_TYPES, *_INDEX_TYPES):
        raise NotTaken("unknown-type", f"the media type {descriptor.media_type[:200]!r} is not one of an image")
    if descriptor.platform and descriptor.platform.os != "linux":
        raise NotTaken("platform", f"the image is of another operating system: {descriptor.platform.os!r}")


def _no_candidate(what: str, error: NotTaken, top: _Top | None = None, group: str | None = None) -> Candidate:
    names, labels = (top.names, top.labels) if top else ((), frozenset[str]())
    return Candidate(what, group, names, labels, labels, None, error)


def _names_of(descriptor: Descriptor, skipped: list[Skipped]) -> tuple[Reference, ...]:
    name = str(descriptor.annotations.get(NAME_ANNOTATION) or "")
    label = str(descriptor.annotations.get(REF_ANNOTATION) or "")
    if name:
        try:
            return (Reference.parse(name),)
        except InvalidReference as error:
            skipped.append(Skipped(name[:300], "name", str(error)))
    # A bare word is a tag of some image: which, only the one who has written the layout knows.
    if ":" not in label and "/" not in label:
        return ()
    try:
        return (Reference.parse(label),)
    except InvalidReference:  # the specification allows more than names of images
        return ()


def _artifact_type(document: Mapping[str, Any]) -> str:
    """What an artifact says that it is; registries give the type of the config there for images, too."""
    kind = _text(document, "artifactType")
    return "" if kind in _CONFIG_TYPES else kind


def _text(document: Any, key: str) -> str:
    found = document.get(key) if isinstance(document, dict) else None
    return found[:200] if isinstance(found, str) else ""
