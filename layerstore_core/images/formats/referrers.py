"""Finding the referrers of images in an OCI layout: signatures, SBOMs, attestations and other artifacts.

What an artifact refers to, its subject, is said in one of three ways:

- `subject` in its manifest or index (OCI image specification 1.1, `manifest.md`);
- a tag: `sha256-<hex>.sig`, `.att` or `.sbom` (cosign), or `sha256-<hex>` of an index of referrers (OCI distribution
  specification 1.1, the referrers tag schema);
- annotations of its entry in an image's index (BuildKit's attestations, moby/buildkit, docs/attestations).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.container import Container, TooMuch
from layerstore_core.images.formats.documents import Descriptor, Documents
from layerstore_core.images.formats.found import MAX_IMAGES, Skipped
from layerstore_core.images.formats.oci_layout import MAX_NESTING, NAME_ANNOTATION, REF_ANNOTATION
from layerstore_core.images.formats.skopeo_dir import SkopeoDirectory
from layerstore_core.records.kept import MAX_DOCUMENT, is_shallow

#: The most referrers that are kept of one layout, and the most bytes of all their blobs.
MAX_REFERRERS: Final = 1000
MAX_BYTES: Final = 256 << 20
#: The most blobs that are looked at for all referrers of a layout, and the most bytes that origins list of them.
MAX_BLOBS: Final = 10_000
MAX_LISTED: Final = 4 << 20
#: A referrer's descriptor with more bytes is kept without what is not necessary; its manifest has the annotations, too.
_MAX_DESCRIPTOR: Final = 4 << 10
_NECESSARY: Final = ("mediaType", "digest", "size")
#: At most so many bytes of JSON are a digest in a list, and what is around a descriptor.
_DIGEST_SIZE: Final = 140
_AROUND: Final = 200
_TAG = re.compile(r"(?:.*:)?(sha256|sha512)-([0-9a-f]{64}|[0-9a-f]{128})(?:\.[A-Za-z0-9._-]{1,64})?", re.ASCII)
_SUBJECT_ANNOTATION: Final = "vnd.docker.reference.digest"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReferrerFiles:
    """A referrer in a layout.

    Attributes:
        subject: the digest of the manifest or index that it refers to.
        descriptor: its descriptor, with the annotations of the index that lists it.
        blobs: the descriptors of all its blobs, its manifest first.
    """

    subject: str
    descriptor: Descriptor
    blobs: tuple[Descriptor, ...]

    @property
    def document(self) -> dict[str, Any]:
        """The descriptor's JSON, bounded in size."""
        return bounded(self.descriptor.document, _MAX_DESCRIPTOR)


@dataclass(frozen=True, slots=True)
class _Listed:
    """An entry of an index that may be a referrer, and the subjects that its tag, its annotations or it itself name."""

    descriptor: Descriptor
    subjects: tuple[str, ...]


def find_referrers(
    container: Container, subjects: Collection[str], images: Collection[str], skipped: list[Skipped]
) -> list[ReferrerFiles]:
    """Find what refers to manifests and indexes in a layout, and what refers to that, and so on.

    Args:
        container: the layout. A container without an index has no referrers.
        subjects: the digests of the manifests and indexes.
        images: the digests of manifests that are images: they are no referrers.
        skipped: referrers that cannot be kept are added here, with the reason.

    Returns:
        The referrers, each once.

    Raises:
        TooMuch: the layout exceeds the limits for documents.
    """
    documents = Documents(container)
    try:
        index = container.index if isinstance(container, SkopeoDirectory) else documents.json("index.json")
    except TooMuch:
        raise
    except InvalidImage:
        return []
    pairs = [(one, subject) for one in _listed(documents, index, "index.json") for subject in one.subjects]
    known, found = set(subjects), dict[tuple[str, str], ReferrerFiles]()
    budget, listed, left = MAX_BYTES, MAX_LISTED, [MAX_BLOBS]
    while next_ones := [pair for pair in pairs if pair[1] in known]:
        pairs = [pair for pair in pairs if pair[1] not in known]
        for one, subject in next_ones:
            digest = one.descriptor.digest
            if (digest, subject) in found or digest in images or digest in subjects:
                continue
            try:
                blobs = tuple({blob.digest: blob for blob in _blobs(documents, one.descriptor, left)}.values())
                referrer = ReferrerFiles(subject, one.descriptor, blobs)
                size = sum(blob.size for blob in blobs)
                text = len(json.dumps(referrer.document)) + _AROUND + _DIGEST_SIZE * len(blobs)
                if len(found) >= MAX_REFERRERS or size > budget or text > listed:
                    raise _too_many()
            except TooMuch:
                raise
            except InvalidImage as error:
                reason = str(error).removeprefix(f"{container.name}: ")
                skipped.append(
                    Skipped(digest, "artifact", f"an artifact, which belongs to {subject}: {reason}", digest)
                )
                continue
            budget -= size
            listed -= text
            found[digest, subject] = referrer
            known.add(digest)
    return list(found.values())


def _listed(
    documents: Documents, index: Any, where: str, depth: int = 0, seen: list[int] | None = None
) -> Iterator[_Listed]:
    """Yield the entries of an index, and of the indexes in it, which can be read and name a subject."""
    seen = [0] if seen is None else seen
    entries = index.get("manifests") if isinstance(index, dict) else None
    for item in entries if isinstance(entries, list) else ():
        seen[0] += 1
        if seen[0] > MAX_IMAGES:
            raise TooMuch(f"{documents.name}: the indexes list more than {MAX_IMAGES} manifests")
        try:
            descriptor = Descriptor.of(item, f"{documents.name}: {where}")
            document = documents.json_blob(descriptor)
        except TooMuch:
            raise
        except InvalidImage:  # an image that cannot be read is reported elsewhere
            continue
        subjects = tuple(_subjects(descriptor, document))
        if subjects:
            yield _Listed(descriptor, subjects)
        if isinstance(document.get("manifests"), list) and depth < MAX_NESTING:
            yield from _listed(documents, document, descriptor.path, depth + 1, seen)


def _subjects(descriptor: Descriptor, document: dict[str, Any]) -> Iterator[str]:
    own = document.get("subject")
    named = [own.get("digest") if isinstance(own, dict) else None, descriptor.annotations.get(_SUBJECT_ANNOTATION)]
    yield from (digest for digest in named if isinstance(digest, str) and _DIGEST.fullmatch(digest))
    for annotation in (REF_ANNOTATION, NAME_ANNOTATION):
        tag = descriptor.annotations.get(annotation)
        if isinstance(tag, str) and len(tag) < 1000 and (match := _TAG.fullmatch(tag)):
            yield f"{match[1]}:{match[2]}"


def _too_many() -> InvalidImage:
    return InvalidImage(
        f"it is not kept: at most {MAX_REFERRERS} referrers with {MAX_BLOBS} blobs and {MAX_BYTES >> 20} MiB are, and "
        f"{MAX_LISTED >> 10} KiB of their descriptors"
    )


def bounded(document: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return the JSON of a descriptor; if it is larger than `limit` or nested deep, only what is necessary of it."""
    if is_shallow(document) and len(json.dumps(document)) <= limit:
        return dict(document)
    return {key: document[key] for key in _NECESSARY if key in document and len(str(document[key])) < 1000}


def _blobs(documents: Documents, descriptor: Descriptor, left: list[int], depth: int = 0) -> Iterator[Descriptor]:
    """Yield the descriptors of a referrer's blobs: of its manifest, and of all that this names.

    Args:
        documents: the layout's documents.
        descriptor: that of the manifest.
        left: how many blobs may still be looked at; it is counted down.
        depth: how many indexes it is in.

    Raises:
        InvalidImage: one is missing, damaged, or too large.
    """
    if depth > MAX_NESTING:
        raise InvalidImage(f"{documents.name}: indexes are nested more than {MAX_NESTING} deep")
    _count(left)
    yield descriptor
    document = documents.json_blob(descriptor)
    where = f"{documents.name}: {descriptor.path}"
    if isinstance(inner := document.get("manifests"), list):
        for item in inner:
            yield from _blobs(documents, Descriptor.of(item, where), left, depth + 1)
        return
    lists = [document.get(key) for key in ("layers", "blobs")]
    items = [document["config"]] if document.get("config") is not None else []
    items += [item for one in lists if isinstance(one, list) for item in one]
    if len(items) > left[0]:
        raise _too_many()
    for item in items:
        _count(left)
        blob = Descriptor.of(item, where)
        if blob.size > MAX_DOCUMENT:
            raise InvalidImage(f"{where}: {blob.digest} has {blob.size} bytes; at most {MAX_DOCUMENT} are kept")
        documents.verify(blob)
        yield blob


def _count(left: list[int]) -> None:
    """Count a blob that is looked at."""
    if left[0] <= 0:
        raise _too_many()
    left[0] -= 1
