"""What is kept of an image, as `save` and programs ask for it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from layerstore_core.base.digests import ImageID
from layerstore_core.base.jsontext import json_problem
from layerstore_core.errors import BadRecord
from layerstore_core.images.formats.documents import MAX_MANIFEST, MAX_VALUES, values_in
from layerstore_core.images.formats.oci_layout import MAX_NESTING
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.keep.groups import for_platform, members_of_names
from layerstore_core.log import logger
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.records.kept import MAX_DOCUMENTS, KeptDocuments, Origin, fit_names


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An image to be saved, or the images for several platforms under one name.

    Attributes:
        name: its name in the output; `None` for none.
        images: the images; the first is the one for this host, or for the platform that was asked for.
        origin: what is kept of it; `None` for nothing.
    """

    name: str | None
    images: tuple[ImageID, ...]
    origin: Origin | None


def choose(
    records: ImageDB,
    kept: KeptDocuments,
    found: Sequence[tuple[ImageID, str | None]],
    *,
    platform: Platform | None,
    all_platforms: bool,
) -> list[Outgoing]:
    """Choose what is to be saved.

    Args:
        records: the records of images.
        kept: what is kept of them.
        found: the image of each name, as Docker's list has it; without a name for one that was given by its ID.
        platform: the platform, where a name stands for images for several.
        all_platforms: whether to save the images for all platforms.

    Raises:
        ImageDoesNotExist: there is no image for the platform.
    """
    members = members_of_names(records, kept, {name: image for image, name in found if name is not None})
    chosen: dict[tuple[tuple[ImageID, ...], str | None], Outgoing] = {}
    for image, name in found:
        images = (image,) if name is None else members[name]
        origin = origin_of(kept, image, name)
        if platform is not None:
            first = for_platform(records, images, platform, name or str(image))
            images = (first, *(other for other in images if other != first))
        out = Outgoing(name, images if all_platforms else images[:1], origin)
        chosen[out.images, name] = out
    named = {out.images for out in chosen.values() if out.name is not None}
    order = dict.fromkeys(out.images for out in chosen.values())
    return [
        out
        for images in order
        for out in chosen.values()
        if out.images == images and (out.name is not None or images not in named)
    ]


def origin_of(kept: KeptDocuments, image: ImageID, name: str | None) -> Origin | None:
    """Return the origin of an image; where it cannot be read, warn, and return `None`."""
    try:
        return kept.origin(image, name)
    except (BadRecord, OSError) as error:
        logger.warning("what was kept of image {} cannot be read; a new manifest is made: {}", image, error)
        return None


def kept_manifest(kept: KeptDocuments, origin: Origin | None, image: ImageID) -> tuple[bytes, dict[str, Any]] | None:
    """Return the manifest that came in with an image, and the same parsed; `None` if there is none that can be used."""
    digest = None if origin is None else origin.images.get(image)
    if digest is None:
        return None
    try:
        return kept.read(digest), parsed(kept, digest)
    except (BadRecord, OSError) as error:
        logger.warning("the manifest of image {} cannot be read; a new one is made: {}", image, error)
        return None


def tree_of(kept: KeptDocuments, digest: str, *, given: Collection[str] = ()) -> list[str] | None:
    """Return the digests of all documents that an index, or the manifest of an artifact, consists of.

    Args:
        kept: the documents.
        digest: the index or the manifest.
        given: the digests of manifests that are in the output already.

    Returns:
        The digests, without those given; `None` if one is missing or damaged, or there are too many.
    """
    found: dict[str, None] = {}
    return list(found) if _collect(kept, digest, set(given), found, 0) else None


def _collect(kept: KeptDocuments, digest: str, given: set[str], found: dict[str, None], depth: int) -> bool:
    """Add a document, and all that it names, to `found`, each once; return whether all are sound."""
    if digest in given or digest in found:
        return True
    try:
        document = parsed(kept, digest)
    except (BadRecord, OSError):
        return False
    found[digest] = None
    is_index = isinstance(document.get("manifests"), list)
    for one in _named_by(document):
        if not isinstance(one, str) or depth > MAX_NESTING or len(found) > MAX_DOCUMENTS:
            return False
        if is_index:
            if not _collect(kept, one, given, found, depth + 1):
                return False
        elif one not in found:
            if not kept.is_sound(one):
                return False
            found[one] = None
    return True


def _named_by(document: dict[str, Any]) -> Iterator[object]:
    lists = [document.get(key) for key in ("manifests", "layers", "blobs")]
    items = [item for one in lists if isinstance(one, list) for item in one]
    for item in [document["config"], *items] if document.get("config") is not None else items:
        yield item.get("digest") if isinstance(item, dict) else None


def copy_origin(kept: KeptDocuments, source: str | None, name: str, image: ImageID) -> None:
    """Give a new name the origin of another one.

    Args:
        kept: the origins.
        source: the name that has the origin; `None`: the image was given by its ID.
        name: the new name. Docker's list does not have it yet.
        image: the image that both names have in Docker's list.

    Raises:
        BadRecord, OSError: the origins cannot be read or written.
    """
    names = kept.names()
    origin = None if source is None else names.get(source, {}).get(image)
    own = dict(names.get(name, {}))
    if origin == own.get(image):
        return
    own.pop(image, None)
    added = {} if origin is None else {name: (image, origin)}
    changed, left_out = fit_names({**names, name: own}, added, from_outside=False)
    if left_out:
        logger.warning("{} has the image, but not the manifest that {} came with: there is no room", name, source)
    kept.set_names(changed)


def annotations_of(kept: KeptDocuments, image: ImageID, name: str | None) -> dict[str, str]:
    """Return the annotations of an image; errors as `KeptDocuments.origin` and `manifest_of`."""
    origin = kept.origin(image, name)
    if origin is None:
        return {}
    manifest = manifest_of(kept, origin, image)
    return annotations_in(manifest) if manifest is not None else dict(origin.annotations)


def manifest_of(kept: KeptDocuments, origin: Origin, image: ImageID) -> dict[str, Any] | None:
    """Return the manifest that came in with an image, parsed; `None` if there is none.

    Raises:
        BadRecord: it is missing or damaged.
        OSError: it cannot be read.
    """
    digest = origin.images.get(image)
    return None if digest is None else parsed(kept, digest)


def parsed(kept: KeptDocuments, digest: str) -> dict[str, Any]:
    """Return a kept manifest or index, parsed.

    Raises:
        BadRecord: it is missing, damaged, or no JSON object.
        OSError: it cannot be read.
    """
    try:
        data = kept.read(digest)
        if len(data) > MAX_MANIFEST or values_in(data) > MAX_VALUES:
            raise BadRecord(kept.path_of(digest), "it is too long for a manifest or an index")
        document = json.loads(data)
    except BadRecord:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRecord(kept.path, f"{digest[:80]} is not a manifest: {json_problem(error)}") from None
    if not isinstance(document, dict):
        raise BadRecord(kept.path_of(digest), "not a manifest: not a JSON object")
    return document


def annotations_in(document: dict[str, Any]) -> dict[str, str]:
    """Return the annotations of a manifest, an index or a descriptor that are text."""
    found = document.get("annotations")
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}
