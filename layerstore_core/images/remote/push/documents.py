"""Writing manifests to a repository: first what they name, then the referrers, and the tag last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layerstore_core.images.formats.oci_layout import REF_ANNOTATION
from layerstore_core.images.remote.referrers import (
    COSIGN_SUFFIXES,
    entry_for,
    list_at_tag,
    media_type_of,
    named_by,
    put_at_cosign_tag,
)
from layerstore_core.log import logger
from layerstore_core.registry.lists import fallback_tag

if TYPE_CHECKING:
    from layerstore_core.records.kept import Referrer
    from layerstore_core.registry import Registry


class ManifestPutter:
    """A writer of manifests and indexes to one repository.

    Args:
        registry: the registry.
        repository: the repository, which has their blobs.
        documents: the manifests and indexes, by their digests.
        report: called with the digest and the size of each that was written.
    """

    def __init__(
        self,
        registry: Registry,
        repository: str,
        documents: Mapping[str, bytes],
        report: Callable[[str, int], object],
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._documents = documents
        self._report = report
        self._parsed: dict[str, dict[str, Any]] = {}
        self._there: set[str] = set()

    def put(
        self, digest: str, tag: str | None, entries: Sequence[Mapping[str, Any]], referrers: Sequence[Referrer]
    ) -> list[str]:
        """Write an image's manifest or index, all that it names, and its referrers.

        Args:
            digest: its digest.
            tag: its tag; `None` for none.
            entries: the descriptors of its referrers, but for those that its index names.
            referrers: what was kept of them.

        Returns:
            The digests of the referrers that the repository has now.

        Raises:
            LayerStoreError: the registry does not take it; the tag is what it was.
        """
        for one in self._named(digest):
            self._put(one)
        if tag is None or entries:
            self._put(digest)
        done = self._put_referrers(entries, {one.digest: one.subject for one in referrers})
        if tag is not None:
            self._send(digest, tag)
        return done

    def _put_referrers(self, entries: Sequence[Mapping[str, Any]], subjects: Mapping[str, str]) -> list[str]:
        done: list[str] = []
        unlisted: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            digest = str(entry["digest"])
            data, document = self._documents[digest], self._document(digest)
            for one in self._named(digest):
                self._put(one)
            tag = _tag_of(entry, subjects.get(digest, ""))
            if isinstance(subject := document.get("subject"), dict):
                if not self._put(digest):
                    unlisted.setdefault(str(subject.get("digest")), []).append(entry_for(data, document, entry))
            elif tag is None:
                logger.warning(
                    "{}: the referrer {} is left out: it names no subject, so that nobody would find it there",
                    self._repository,
                    digest,
                )
                continue
            elif not put_at_cosign_tag(self._registry, self._repository, tag, data, media_type_of(document)):
                continue
            done.append(digest)
        for subject, found in unlisted.items():
            list_at_tag(self._registry, self._repository, subject, found)
        return done

    def _named(self, digest: str) -> list[str]:
        """Return the manifests that an index names, and the indexes in it, each after all that it names itself."""
        found: dict[str, None] = {}

        def add(one: str) -> None:
            for item in named_by(self._document(one)):
                inner = str(item.get("digest")) if isinstance(item, dict) else ""
                if inner in self._documents and inner not in found:
                    add(inner)
                    found[inner] = None

        add(digest)
        return list(found)

    def _put(self, digest: str) -> bool:
        """Write a manifest by its digest, once; return whether the registry lists it as a referrer."""
        if digest in self._there:
            return True
        return self._send(digest, digest)

    def _send(self, digest: str, reference: str) -> bool:
        data = self._documents[digest]
        put = self._registry.put_manifest(self._repository, reference, data, media_type_of(self._document(digest)))
        self._there.add(digest)
        self._report(digest, len(data))
        return put.subject_handled

    def _document(self, digest: str) -> dict[str, Any]:
        if digest not in self._parsed:
            self._parsed[digest] = json.loads(self._documents[digest])
        return self._parsed[digest]


def _tag_of(entry: Mapping[str, Any], subject: str) -> str | None:
    """Return the tag of cosign that a referrer had; `None` for none."""
    annotations = entry.get("annotations")
    said = annotations.get(REF_ANNOTATION) if isinstance(annotations, dict) else None
    tag = str(said).rpartition(":")[2]
    known = {f"{fallback_tag(subject)}.{suffix}" for suffix in COSIGN_SUFFIXES}
    return tag if tag in known else None
