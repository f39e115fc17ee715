"""Finding the referrers of images in an OCI layout: signatures, SBOMs, attestations and other artifacts.

What an artifact refers to, its subject, is said in one of three ways:

- `subject` in its manifest or index (OCI image specification 1.1, `manifest.md`);
- a tag: `sha256-<hex>.sig`, `.att` or `.sbom` (cosign), or `sha256-<hex>` of an index of referrers (OCI distribution
  specification 1.1, the referrers tag schema);
- annotations of its entry in an image's index (BuildKit's attestations, moby/buildkit, docs/attestations).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.container import Container, TooMuch
from layerstore_core.images.formats.documents import Descriptor, Documents
from layerstore_core.images.formats.found import MAX_IMAGES, Skipped
from layerstore_core.images.formats.oci_layout import MAX_NESTING, NAME_ANNOTATION, REF_ANNOTATION
from layerstore_core.images.formats.skopeo_dir import SkopeoDirectory
from layerstore_core.records.kept import MAX_DOCUMENT

#: The most referrers that are kept of one layout, and the most bytes of all their blobs.
MAX_REFERRERS: Final = 1000
MAX_BYTES: Final = 256 << 20
_MAX_BLOBS: Final = 10_000
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
    budget = MAX_BYTES
    while next_ones := [pair for pair in pairs if pair[1] in known]:
        pairs = [pair for pair in pairs if pair[1] not in known]
        for one, subject in next_ones:
            digest = one.descriptor.digest
            if (digest, subject) in found or digest in images or digest in subjects:
                continue
            try:
                blobs = tuple({blob.digest: blob for blob in _blobs(documents, one.descriptor)}.values())
                size = sum(blob.size for blob in blobs)
                if len(found) >= MAX_REFERRERS or size > budget:
                    raise InvalidImage(
                        f"it is not kept: at most {MAX_REFERRERS} referrers with {MAX_BYTES >> 20} MiB are"
                    )
            except TooMuch:
                raise
            except InvalidImage as error:
                reason = str(error).removeprefix(f"{container.name}: ")
                skipped.append(
                    Skipped(digest, "artifact", f"an artifact, which belongs to {subject}: {reason}", digest)
                )
                continue
            budget -= size
            found[digest, subject] = ReferrerFiles(subject, one.descriptor, blobs)
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


def _blobs(documents: Documents, descriptor: Descriptor, depth: int = 0) -> Iterator[Descriptor]:
    """Yield the descriptors of a referrer's blobs: of its manifest, and of all that this names.

    Raises:
        InvalidImage: one is missing, damaged, or too large.
    """
    if depth > MAX_NESTING:
        raise InvalidImage(f"{documents.name}: indexes are nested more than {MAX_NESTING} deep")
    yield descriptor
    document = documents.json_blob(descriptor)
    where = f"{documents.name}: {descriptor.path}"
    if isinstance(inner := document.get("manifests"), list):
        for item in inner:
            yield from _blobs(documents, Descriptor.of(item, where), depth + 1)
        return
    lists = [document.get(key) for key in ("layers", "blobs")]
    items = [document["config"]] if document.get("config") is not None else []
    items += [item for one in lists if isinstance(one, list) for item in one]
    if len(items) > _MAX_BLOBS:
        raise InvalidImage(f"{where} names more than {_MAX_BLOBS} blobs")
    for item in items:
        blob = Descriptor.of(item, where)
        if blob.size > MAX_DOCUMENT:
            raise InvalidImage(f"{where}: {blob.digest} has {blob.size} bytes; at most {MAX_DOCUMENT} are kept")
        documents.verify(blob)
        yield blob
