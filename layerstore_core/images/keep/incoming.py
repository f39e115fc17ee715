"""What a container has of manifests, indexes and referrers for the images that are loaded from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from layerstore_core.base import inside
from layerstore_core.base.descriptors import write_all
from layerstore_core.base.digests import ImageID
from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.container import Container, TooMuch
from layerstore_core.images.formats.documents import Descriptor
from layerstore_core.images.formats.found import ImageFiles, ImageGroup, ManifestFiles, Skipped
from layerstore_core.images.formats.referrers import ReferrerFiles, bounded, find_referrers
from layerstore_core.records.kept import MAX_DOCUMENT, KeptDocuments, Origin, Referrer, digest_of

#: A descriptor with more bytes of JSON is kept without what is not necessary: its annotations and other fields.
_MAX_DESCRIPTOR: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Incoming:
    """What is to be kept of a container.

    Attributes:
        documents: the descriptors of the documents, by digest.
        images: the origins of the images.
        names: the origins of names, each with the image that the name is to have in Docker's list.
        referrers: the referrers among it.
    """

    documents: Mapping[str, Descriptor] = field(default_factory=dict)
    images: Mapping[ImageID, Origin] = field(default_factory=dict)
    names: Mapping[str, tuple[ImageID, Origin]] = field(default_factory=dict)
    referrers: Sequence[ReferrerFiles] = ()


def incoming(container: Container, groups: Sequence[ImageGroup], skipped: list[Skipped]) -> Incoming:
    """Find what is to be kept with images.

    Args:
        container: the container that they are loaded from.
        groups: the images.
        skipped: referrers that cannot be kept are added here.
    """
    members = [image for group in groups for image in group.images]
    sources = [image.source for image in members if image.source is not None]
    if not sources:
        return Incoming()
    manifests = {source.manifest.digest for source in sources}
    subjects = manifests | {index.digest for source in sources for index in source.indexes}
    try:
        referrers = find_referrers(container, subjects, manifests, skipped)
    except TooMuch as error:
        referrers = []
        reason = f"no signatures, attestations or other artifacts are kept: {error}"
        skipped.append(Skipped(container.name, "artifact", reason))
    documents = {one.digest: one for source in sources for one in _chain(source)}
    documents.update({blob.digest: blob for one in referrers for blob in one.blobs})
    images: dict[ImageID, Origin] = {}
    for image in members:
        if image.source is not None:
            images.setdefault(image.config.image_id, _of_image(image.config.image_id, image.source, referrers))
    names = {
        str(name): (group.images[0].config.image_id, origin)
        for group in groups
        if (origin := _of_group(group.images, referrers)) is not None
        for name in group.names
    }
    return Incoming(documents, images, names, referrers)


class Documents:
    """Documents of a container that are to be kept; a context manager.

    They are read and verified at once, into a file without a name: the container may be a registry, or a slow disk, and
    `write` runs while no other process can change images.

    Args:
        kept: where they will be written. Those that are there are not read.
        container: the container.
        documents: their descriptors.
        directory: the directory for the file.

    Attributes:
        source: the name of the container.

    Raises:
        InvalidImage: one is damaged or missing.
        OSError: one cannot be read, or the file cannot be written.
    """

    def __init__(
        self, kept: KeptDocuments, container: Container, documents: Collection[Descriptor], directory: Path
    ) -> None:
        self.source = container.name
        self._kept = kept
        self._container = container
        self._documents = documents
        #: Where the content of a document is in the file.
        self._places: dict[str, tuple[int, int]] = {}
        self._file = inside.temporary_file(directory) if documents else None
        try:
            for one in documents:
                if self._file is not None and not kept.is_sound(one.digest):
                    content = _read(container, one)
                    self._places[one.digest] = self._file.tell(), len(content)
                    write_all(self._file.fileno(), content)
        except BaseException:
            self.close()
            raise

    def write(self, added: Callable[[str], object]) -> None:
        """Write the documents, unless they are there, and flush them together. The caller has locked the image records.

        Args:
            added: called with the digest of each document that was not there before.

        Raises:
            InvalidImage: one was removed since, and the container does not have it any more.
            BadRecord, OSError: it cannot be written.
        """
        with self._kept.putting() as put:
            for one in self._documents:
                if put(one.digest, lambda one=one: self._content(one)):  # type: ignore[misc]
                    added(one.digest)

    def _content(self, document: Descriptor) -> bytes:
        if self._file is None or document.digest not in self._places:
            return _read(self._container, document)
        start, size = self._places[document.digest]
        return os.pread(self._file.fileno(), size, start)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def related(referrers: Iterable[Referrer | ReferrerFiles], subjects: Collection[str]) -> list[int]:
    """Return the numbers of the referrers that refer to one of the subjects, or to a referrer that does."""
    known = set(subjects)
    numbered = [(number, one.subject, _digest(one)) for number, one in enumerate(referrers)]
    found: set[int] = set()
    while more := [one for one in numbered if one[0] not in found and one[1] in known]:
        found.update(number for number, _, _ in more)
        known.update(digest for _, _, digest in more)
    return sorted(found)


def _of_image(image_id: ImageID, source: ManifestFiles, referrers: Sequence[ReferrerFiles]) -> Origin:
    target = source.manifest if source.indexes else source.top
    belonging = [referrers[number] for number in related(referrers, {target.digest})]
    return Origin(
        target=_document(target, is_index=False),
        images={image_id: source.manifest.digest},
        referrers=tuple(map(_referrer, belonging)),
        documents=_digests([target], belonging),
    )


def _of_group(images: Sequence[ImageFiles], referrers: Sequence[ReferrerFiles]) -> Origin | None:
    sources = [(image.config.image_id, image.source) for image in images if image.source is not None]
    if not sources:
        return None
    chain = list({one.digest: one for _, source in sources for one in _chain(source)}.values())
    belonging = [referrers[number] for number in related(referrers, {one.digest for one in chain})]
    tops = {source.top.digest: source for _, source in sources}
    top = next(iter(tops.values())) if len(tops) == 1 else None
    return Origin(
        target=None if top is None else _document(top.top, is_index=bool(top.indexes)),
        images={image_id: source.manifest.digest for image_id, source in sources},
        referrers=tuple(map(_referrer, belonging)),
        documents=_digests(chain, belonging),
    )


def _chain(source: ManifestFiles) -> tuple[Descriptor, ...]:
    return (*source.indexes, source.manifest)


def _digests(documents: Iterable[Descriptor], referrers: Iterable[ReferrerFiles]) -> tuple[str, ...]:
    blobs = (blob.digest for one in referrers for blob in one.blobs)
    return tuple(dict.fromkeys([*(one.digest for one in documents), *blobs]))


def _referrer(one: ReferrerFiles) -> Referrer:
    return Referrer(one.subject, one.document)


def _digest(one: Referrer | ReferrerFiles) -> str:
    return one.digest if isinstance(one, Referrer) else one.descriptor.digest


def _document(descriptor: Descriptor, *, is_index: bool) -> dict[str, Any]:
    """Return a descriptor's JSON, with a media type, and bounded in size."""
    document = dict(descriptor.document)
    if not descriptor.media_type:
        kind = "index" if is_index else "manifest"
        document = {"mediaType": f"application/vnd.oci.image.{kind}.v1+json", **document}
    return bounded(document, _MAX_DESCRIPTOR)


def _read(container: Container, descriptor: Descriptor) -> bytes:
    where = f"{container.name}: {descriptor.path}"
    if container.size(descriptor.path) != descriptor.size or descriptor.size > MAX_DOCUMENT:
        raise InvalidImage(f"{where} has changed while it was read")
    pieces, left = [], descriptor.size
    with container.open(descriptor.path) as file:
        while left and (chunk := file.read(min(left, 1 << 20))):
            pieces.append(chunk)
            left -= len(chunk)
    content = b"".join(pieces)
    if digest_of(content, descriptor.digest.partition(":")[0]) != descriptor.digest:
        raise InvalidImage(f"{where} is damaged: its digest is not its name")
    return content
