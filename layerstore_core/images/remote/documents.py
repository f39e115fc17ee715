"""Reading from a registry what an image consists of, besides its layers: index, manifests, configs.

Only what belongs to the chosen platform is read: the descriptors of an index say for which platform each manifest is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from layerstore_core.base.jsontext import json_problem
from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.documents import MAX_MANIFEST, MAX_VALUES, Descriptor, values_in
from layerstore_core.images.formats.oci_layout import CONFIG_TYPES, INDEX_TYPES, MAX_NESTING, is_attestation
from layerstore_core.images.formats.platforms import Platform, listed
from layerstore_core.records.imagedb import MAX_CONFIG
from layerstore_core.records.kept import digest_of
from layerstore_core.registry.errors import InvalidAnswer, NotInRegistry
from layerstore_core.registry.results import Manifest, ManifestInfo

#: The most manifests and indexes that are read for one image.
MAX_READ: Final = 1000
#: The most bytes of manifests, indexes and configs of one image.
MAX_BYTES: Final = 64 << 20


class Body(Protocol):
    """The answer to a request for a blob; see `downloads.Body`."""

    @property
    def start(self) -> int: ...
    @property
    def size(self) -> int | None: ...
    def read(self, count: int, /) -> bytes: ...
    def distrust(self) -> bool: ...
    def close(self) -> None: ...


class Source(Protocol):
    """What is asked of a registry here: a part of `registry.Registry`."""

    def manifest(self, repository: str, reference: str) -> Manifest: ...
    def manifest_info(self, repository: str, reference: str) -> ManifestInfo | None: ...
    def blob(
        self, repository: str, digest: str, *, start: int = 0, end: int | None = None, size: int | None = None
    ) -> Body: ...


#: Returns a document that the store has, by its digest.
Known = Callable[[str], bytes | None]


@dataclass(slots=True)
class RemoteImage:
    """What was read of an image.

    Attributes:
        reference: its name.
        top: the descriptor of its manifest or index.
        contents: what was read: manifests, indexes and configs, by digest.
        manifests: the descriptors of all manifests and indexes that are named, read or not, by digest.
        blobs: the descriptors of all blobs that are named, by digest.
        referrers: the descriptors of what refers to it, for the index of the container.
    """

    reference: Reference
    top: dict[str, Any]
    contents: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Descriptor] = field(default_factory=dict)
    blobs: dict[str, Descriptor] = field(default_factory=dict)
    referrers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """The digest of the manifest or index that the name stands for."""
        return str(self.top["digest"])


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A manifest that an index leads to, and its platform, as far as the index says it."""

    descriptor: Descriptor
    platform: Platform | None


def read_image(
    source: Source,
    reference: Reference,
    *,
    platform: Platform | None = None,
    all_platforms: bool = False,
    known: Known = lambda _: None,
    last: str | None = None,
    configs: bool = True,
) -> RemoteImage:
    """Read an image's index, manifest and config.

    Args:
        source: the registry.
        reference: the image's name there.
        platform: the platform to choose from an index; `None` for this host's, or the only one that there is.
        all_platforms: whether to read the manifests for all platforms.
        known: returns a document that the store has: it is not asked for.
        last: the digest that the name had the last time, of which the store may have the manifest.
        configs: whether to read configs.

    Raises:
        InvalidImage: it is no image, is damaged, has no image for the platform, or is too large.
        RegistryError: the registry cannot be asked, or has no such image.
    """
    return _Reader(source, reference, known, configs=configs).read(platform, all_platforms=all_platforms, last=last)


class _Reader:
    def __init__(self, source: Source, reference: Reference, known: Known, *, configs: bool) -> None:
        self._source = source
        self._configs = configs
        self._repository = reference.path
        self._reference = reference
        self._known = known
        self._name = str(reference)
        self._left = MAX_BYTES
        self._count = MAX_READ
        self._image: RemoteImage

    def read(self, platform: Platform | None, *, all_platforms: bool, last: str | None) -> RemoteImage:
        top = self._top(last)
        self._image = RemoteImage(
            self._reference, {"mediaType": top.media_type, "digest": top.digest, "size": len(top.data)}
        )
        self._keep(top.digest, top.data)
        descriptor = Descriptor.of(self._image.top, self._name)
        document = self._parsed(descriptor, top.data)
        if not _is_index(descriptor, document):
            self._config_of(document)
            return self._image
        leaves = list(self._leaves(document, 0))
        for leaf in leaves if all_platforms else self._chosen(leaves, platform):
            self._manifest(leaf, optional=all_platforms)
        return self._image

    def _top(self, last: str | None) -> Manifest:
        """Return the manifest or index of the name. One that the store has is only asked for its digest."""
        asked = self._reference.digest or self._reference.tag or "latest"
        digest = self._reference.digest
        if digest is None and last is not None and self._known(last) is not None:
            info = self._source.manifest_info(self._repository, asked)
            if info is not None and info.digest == last and info.media_type:
                digest = last
        if digest is not None and (data := self._known(digest)) is not None:
            media_type = _media_type_of(data)
            if media_type:
                return Manifest(data, digest, media_type)
        return self._source.manifest(self._repository, asked)

    def _leaves(self, index: Mapping[str, Any], depth: int) -> Iterator[_Leaf]:
        """Yield the manifests that an index leads to; the indexes in it are read."""
        listed = index.get("manifests")
        if not isinstance(listed, list):
            raise InvalidImage(f"{self._name}: the index has no list of manifests")
        for item in listed:
            try:
                descriptor = Descriptor.of(item, self._name)
            except InvalidImage:  # `find_images` says so
                continue
            if descriptor.digest in self._image.manifests:
                continue
            self._image.manifests[descriptor.digest] = descriptor
            if descriptor.media_type in INDEX_TYPES:
                if depth + 1 >= MAX_NESTING:
                    raise InvalidImage(f"{self._name}: indexes are nested more than {MAX_NESTING} deep")
                yield from self._leaves(self._parsed(descriptor, self._read_manifest(descriptor)), depth + 1)
            else:
                yield _Leaf(descriptor, descriptor.platform)

    def _chosen(self, leaves: list[_Leaf], platform: Platform | None) -> list[_Leaf]:
        """Return the manifest for a platform; all whose platform is not known, if none is for it."""
        images = [leaf for leaf in leaves if not is_attestation(leaf.descriptor)]
        target = platform or Platform.of_this_host()
        ranked = [
            (rank, number)
            for number, leaf in enumerate(images)
            if leaf.platform is not None and (rank := target.rank(leaf.platform)) is not None
        ]
        if ranked:
            return [images[min(ranked)[1]]]
        if unknown := [leaf for leaf in images if leaf.platform is None]:
            return unknown
        if platform is None and len(images) == 1 and images[0].platform and images[0].platform.os == "linux":
            return images
        there = listed(leaf.platform for leaf in images)
        raise InvalidImage(f"{self._name}: there is no image for {target}; there are: {there}. Choose with --platform")

    def _manifest(self, leaf: _Leaf, *, optional: bool) -> None:
        """Read a manifest, and its config. With all platforms, those that the registry lacks are left out."""
        try:
            document = self._parsed(leaf.descriptor, self._read_manifest(leaf.descriptor))
        except NotInRegistry:
            if optional:
                return
            raise
        self._config_of(document)

    def _config_of(self, manifest: Mapping[str, Any]) -> None:
        """Note the blobs that a manifest names, and read its config if it is one of an image."""
        lists = [manifest.get(key) for key in ("layers", "blobs")]
        for item in [item for one in lists if isinstance(one, list) for item in one]:
            try:
                blob = Descriptor.of(item, self._name)
            except InvalidImage:  # `find_images` says so
                continue
            self._image.blobs.setdefault(blob.digest, blob)
        try:
            config = Descriptor.of(manifest.get("config"), self._name)
        except InvalidImage:
            return
        self._image.blobs.setdefault(config.digest, config)
        if self._configs and config.media_type in CONFIG_TYPES and config.digest not in self._image.contents:
            data = self._known(config.digest)
            if data is None:
                data = read_blob(self._source, self._reference, config, MAX_CONFIG)
            self._keep(config.digest, data)

    def _read_manifest(self, descriptor: Descriptor) -> bytes:
        self._count -= 1
        if self._count < 0:
            raise InvalidImage(f"{self._name}: the index leads to more than {MAX_READ} manifests")
        if descriptor.size > MAX_MANIFEST:
            raise InvalidImage(
                f"{self._name}: {descriptor.digest} has {descriptor.size} bytes; the limit for a manifest is "
                f"{MAX_MANIFEST}"
            )
        data = self._known(descriptor.digest)
        if data is None:
            data = self._source.manifest(self._repository, descriptor.digest).data
        self._keep(descriptor.digest, data)
        return data

    def _keep(self, digest: str, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise InvalidImage(f"{self._name}: manifests and configs have more than {MAX_BYTES >> 20} MiB together")
        self._image.contents[digest] = data

    def _parsed(self, descriptor: Descriptor, data: bytes) -> dict[str, Any]:
        try:
            if values_in(data) > MAX_VALUES:
                raise ValueError("it has too many values")
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InvalidImage(f"{self._name}: {descriptor.digest} is not JSON: {json_problem(error)}") from None
        if not isinstance(document, dict):
            raise InvalidImage(f"{self._name}: {descriptor.digest} is not a JSON object")
        self._image.manifests.setdefault(descriptor.digest, descriptor)
        return document


def read_blob(source: Source, reference: Reference, descriptor: Descriptor, limit: int) -> bytes:
    """Read a whole blob from a registry, and verify it.

    Args:
        source: the registry.
        reference: the image.
        descriptor: the blob.
        limit: its greatest size, in bytes.

    Raises:
        InvalidImage: it is larger.
        InvalidAnswer: the registry sends something else.
        RegistryError: it cannot be read.
    """
    if descriptor.size > limit:
        raise InvalidImage(f"{reference}: {descriptor.digest} has {descriptor.size} bytes; the limit is {limit}")
    pieces, left = [], descriptor.size
    body = source.blob(reference.path, descriptor.digest)
    try:
        while left >= 0 and (piece := body.read(min(left + 1, 1 << 20))):
            pieces.append(piece)
            left -= len(piece)
    finally:
        body.close()
    data = b"".join(pieces)
    if left or digest_of(data, descriptor.digest.partition(":")[0]) != descriptor.digest:
        if body.distrust():  # it was a mirror: the next server is asked
            return read_blob(source, reference, descriptor, limit)
        what = f"{len(data)} bytes instead of {descriptor.size}" if left else "bytes with another digest"
        raise InvalidAnswer(reference.domain, f"for blob {descriptor.digest} of {reference.path} it sends {what}")
    return data


def _is_index(descriptor: Descriptor, document: Mapping[str, Any]) -> bool:
    return descriptor.media_type in INDEX_TYPES or (not descriptor.media_type and "manifests" in document)


def _media_type_of(data: bytes) -> str:
    """Return the media type of a manifest that the store has; empty if that is not certain: then it is asked for."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    found = document.get("mediaType") if isinstance(document, dict) else None
    return found if isinstance(found, str) else ""
