"""The referrers of images in a registry: signatures, SBOMs, attestations and other artifacts.

A registry lists what has a `subject`; one that cannot has an index of it at a tag (OCI distribution specification 1.1,
"Referrers Tag Schema"). cosign's older form has no subject, but tags of its own: `sha256-<hex>.sig`, `.att`, `.sbom`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from layerstore_core.errors import InvalidImage, LayerStoreError
from layerstore_core.images.formats.documents import MAX_VALUES, Descriptor, parse_json, values_in
from layerstore_core.images.formats.found import Skipped
from layerstore_core.images.formats.oci_layout import INDEX_TYPES, MAX_NESTING, REF_ANNOTATION
from layerstore_core.images.formats.referrers import MAX_BLOBS, MAX_REFERRERS
from layerstore_core.log import logger
from layerstore_core.registry.errors import NotInRegistry
from layerstore_core.registry.lists import fallback_tag

if TYPE_CHECKING:
    from layerstore_core.images.remote.documents import RemoteImage
    from layerstore_core.registry import Registry
    from layerstore_core.registry.results import Manifest, ManifestInfo

#: The ends of the tags of cosign.
COSIGN_SUFFIXES: Final = ("sig", "att", "sbom")
INDEX_TYPE: Final = INDEX_TYPES[0]
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
#: The longest index of referrers, in bytes: registries take no larger manifests.
_MAX_INDEX: Final = 4 << 20
#: The most bytes of the manifests of all referrers of an image that is pulled.
_MAX_CONTENTS: Final = 32 << 20
#: So often an index of referrers is written again because another client has written it at the same time.
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class RemoteReferrer:
    """A referrer in a repository.

    Attributes:
        subject: the digest of what it refers to.
        descriptor: its descriptor for the index of a layout. What has no subject has its tag as an annotation.
        documents: its manifest, and for an index all in it, byte for byte, by their digests.
        blobs: the descriptors of its other blobs.
    """

    subject: str
    descriptor: Mapping[str, Any] = field(hash=False)
    documents: Mapping[str, bytes] = field(hash=False, repr=False)
    blobs: tuple[Descriptor, ...]


@runtime_checkable
class ReferrerSource(Protocol):
    """What is asked of a registry to find referrers: a part of `registry.Registry`."""

    @property
    def host(self) -> str: ...
    def manifest(self, repository: str, reference: str) -> Manifest: ...
    def manifest_info(self, repository: str, reference: str) -> ManifestInfo | None: ...
    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]: ...


def add_referrers(registry: ReferrerSource, image: RemoteImage, skipped: list[Skipped]) -> None:
    """Add to an image what refers to its manifests and indexes, so that it is loaded with it.

    Args:
        registry: the registry that the image was read from.
        image: what was read of the image; documents, descriptors and entries are added.
        skipped: referrers that are left out are added here.

    Raises:
        RegistryError: the registry does not answer.
    """
    subjects = [digest for digest in image.manifests if digest in image.contents]
    found = find_in_registry(
        registry,
        image.reference.path,
        subjects,
        lambda digest, reason: skipped.append(Skipped(digest, "artifact", reason, digest)),
    )
    for one in found:
        if one.descriptor["digest"] in image.contents:  # an attestation in the image's own index
            continue
        image.contents.update(one.documents)
        for blob in one.blobs:
            image.blobs.setdefault(blob.digest, blob)
        image.referrers.append(dict(one.descriptor))


def find_in_registry(
    registry: ReferrerSource, repository: str, subjects: Iterable[str], skipped: Callable[[str, str], object]
) -> list[RemoteReferrer]:
    """Find what refers to manifests and indexes in a repository, and what refers to that, and so on.

    Blobs are not read, only manifests.

    Args:
        registry: the registry.
        repository: the repository.
        subjects: the digests of the manifests and indexes.
        skipped: called with the digest of each referrer that is left out, and the reason.

    Returns:
        The referrers, each once, at most as many as are kept of a layout.

    Raises:
        RegistryError: the registry does not answer.
    """
    found: dict[tuple[str, str], RemoteReferrer] = {}
    queue, known = list(dict.fromkeys(subjects)), set[str]()
    left, budget = MAX_BLOBS, _MAX_CONTENTS
    while queue:
        subject = queue.pop(0)
        if subject in known:
            continue
        known.add(subject)
        for entry in [*registry.referrers(repository, subject), *_tagged(registry, repository, subject)]:
            digest = str(entry.get("digest"))
            if (digest, subject) in found:
                continue
            if len(found) >= MAX_REFERRERS or left <= 0 or budget <= 0:
                most = f"{MAX_REFERRERS} referrers with {MAX_BLOBS} blobs and {_MAX_CONTENTS >> 20} MiB of manifests"
                skipped(digest, f"at most {most} are kept; this one and others are left out")
                return list(found.values())
            try:
                referrer = _read(registry, repository, subject, entry)
            except (InvalidImage, NotInRegistry) as error:
                skipped(digest, f"an artifact, which belongs to {subject}: {error}")
                continue
            left -= len(referrer.documents) + len(referrer.blobs)
            budget -= sum(map(len, referrer.documents.values()))
            found[digest, subject] = referrer
            queue.append(digest)
    return list(found.values())


def _tagged(registry: ReferrerSource, repository: str, subject: str) -> Iterable[dict[str, Any]]:
    """Yield descriptors of what cosign's tags name."""
    for suffix in COSIGN_SUFFIXES:
        tag = f"{fallback_tag(subject)}.{suffix}"
        info = registry.manifest_info(repository, tag)
        if info is None:
            continue
        # Only the bytes say the digest for certain, and they are read anyway.
        manifest = registry.manifest(repository, tag)
        yield {
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": len(manifest.data),
            "annotations": {REF_ANNOTATION: tag},
        }


def _read(registry: ReferrerSource, repository: str, subject: str, entry: dict[str, Any]) -> RemoteReferrer:
    where = f"{registry.host}/{repository}"
    descriptor = Descriptor.of(entry, f"{where}: a referrer of {subject}")
    reader = _Reader(registry, repository)
    reader.read(descriptor)
    if (size := len(reader.documents[descriptor.digest])) != descriptor.size:
        raise InvalidImage(
            f"{where}@{descriptor.digest} has {size} bytes, not {descriptor.size} as its descriptor says"
        )
    return RemoteReferrer(subject, descriptor.document, reader.documents, tuple(reader.blobs.values()))


class _Reader:
    """A reader of a referrer's manifests.

    Attributes:
        documents: the manifests, by their digests.
        blobs: the descriptors of the other blobs, by their digests.
    """

    def __init__(self, registry: ReferrerSource, repository: str) -> None:
        self._registry = registry
        self._repository = repository
        self.documents: dict[str, bytes] = {}
        self.blobs: dict[str, Descriptor] = {}

    def read(self, descriptor: Descriptor, depth: int = 0) -> None:
        """Read a manifest, and those in it if it is an index.

        Raises:
            InvalidImage: one is no manifest, or there are too many.
            RegistryError: the registry does not give one.
        """
        where = f"{self._registry.host}/{self._repository}@{descriptor.digest}"
        if depth > MAX_NESTING:
            raise InvalidImage(f"{where}: indexes are nested more than {MAX_NESTING} deep")
        if descriptor.digest in self.documents:
            return
        data = self._registry.manifest(self._repository, descriptor.digest).data
        if values_in(data) > MAX_VALUES:
            raise InvalidImage(f"{where} has more than {MAX_VALUES} values")
        document = parse_json(data, where)
        if not isinstance(document, dict):
            raise InvalidImage(f"{where} is not a JSON object")
        self.documents[descriptor.digest] = data
        items = named_by(document)
        if len(self.documents) + len(self.blobs) + len(items) > MAX_BLOBS:
            raise InvalidImage(f"{where} has more than {MAX_BLOBS} blobs")
        for item in items:
            one = Descriptor.of(item, where)
            if isinstance(document.get("manifests"), list):
                self.read(one, depth + 1)
            else:
                self.blobs[one.digest] = one


def named_by(document: Mapping[str, Any]) -> list[Any]:
    """Return the descriptors in a manifest or an index: of its config, layers and blobs, or of its manifests."""
    lists = [document.get(key) for key in ("manifests", "layers", "blobs")]
    items = [document["config"]] if document.get("config") is not None else []
    return items + [item for one in lists if isinstance(one, list) for item in one]


def list_at_tag(registry: Registry, repository: str, subject: str, referrers: Sequence[Mapping[str, Any]]) -> None:
    """List referrers in the index at the tag of their subject, for a registry that does not list them itself.

    What the index has already stays in it. Two clients may write it at once, and the last one wins: it is read again
    until all entries are there.

    Args:
        registry: the registry.
        repository: the repository.
        subject: the digest of what they refer to.
        referrers: their descriptors.

    Raises:
        LayerStoreError: the tag has something else, the index is full, or other clients write it again and again.
        RegistryError: the registry does not take it.
    """
    tag = fallback_tag(subject)
    where = f"{registry.host}/{repository}:{tag}"
    for _ in range(_ATTEMPTS):
        index = _index_at(registry, repository, tag, where)
        there = {entry.get("digest") for entry in index["manifests"] if isinstance(entry, dict)}
        missing = [dict(one) for one in referrers if one["digest"] not in there]
        if not missing:
            return
        data = json.dumps({**index, "manifests": [*index["manifests"], *missing]}, separators=(",", ":")).encode()
        if len(data) > _MAX_INDEX:
            raise LayerStoreError(
                f"{where}: the index of referrers would have {len(data)} bytes; registries take {_MAX_INDEX}"
            )
        registry.put_manifest(repository, tag, data, INDEX_TYPE)
    raise LayerStoreError(f"{where}: other clients write the index of referrers again and again; push again later")


def _index_at(registry: Registry, repository: str, tag: str, where: str) -> dict[str, Any]:
    try:
        manifest = registry.manifest(repository, tag, mirrors=False)
    except NotInRegistry:
        return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
    document = parse_json(manifest.data, where)
    if not isinstance(document, dict) or not isinstance(document.get("manifests"), list):
        raise LayerStoreError(f"{where} is not an index of referrers; it is left as it is, and so are the referrers")
    return {**document, "mediaType": INDEX_TYPE}


def entry_for(data: bytes, document: Mapping[str, Any], descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a referrer in an index of referrers, as the specification says it.

    Args:
        data: its manifest.
        document: the same, parsed.
        descriptor: its descriptor, with its digest.
    """
    config = document.get("config")
    kind = document.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    entry: dict[str, Any] = {
        "mediaType": media_type_of(document),
        "digest": descriptor["digest"],
        "size": len(data),
    }
    if isinstance(kind, str):
        entry["artifactType"] = kind
    if isinstance(annotations := document.get("annotations"), dict):
        entry["annotations"] = annotations
    return entry


def media_type_of(document: Mapping[str, Any]) -> str:
    """Return the media type of a manifest or an index; the one of OCI if it does not say."""
    said = document.get("mediaType")
    if isinstance(said, str) and said:
        return said
    return INDEX_TYPE if "manifests" in document else MANIFEST_TYPE


def put_at_cosign_tag(registry: Registry, repository: str, tag: str, data: bytes, media_type: str) -> bool:
    """Write what cosign keeps at a tag of its own, unless the tag has something that this would lose.

    cosign adds a layer for each further signature, and writes the manifest again.

    Returns:
        Whether the tag has all that is in `data` now.
    """
    try:
        before = registry.manifest(repository, tag, mirrors=False)
    except NotInRegistry:
        before = None
    if before is not None and before.data != data:
        theirs, ours = _layers_of(before), _digests_in(parse_json(data, tag))
        if ours < theirs:
            return True
        if not theirs <= ours:
            logger.warning(
                "{}/{}:{} has other signatures than the image in the store; it is left as it is",
                registry.host,
                repository,
                tag,
            )
            return False
    if before is None or before.data != data:
        registry.put_manifest(repository, tag, data, media_type)
    return True


def _layers_of(manifest: Manifest) -> frozenset[str]:
    try:
        return _digests_in(parse_json(manifest.data, manifest.digest))
    except InvalidImage:
        return frozenset({"?"})


def _digests_in(document: Any) -> frozenset[str]:
    layers = document.get("layers") if isinstance(document, dict) else None
    return frozenset(
        str(layer.get("digest")) for layer in (layers if isinstance(layers, list) else ()) if isinstance(layer, dict)
    )
