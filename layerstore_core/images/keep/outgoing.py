"""What is kept of an image, as `save` and programs ask for it."""

from __future__ import annotations

import json
from typing import Any

from layerstore_core.base.digests import ImageID
from layerstore_core.errors import BadRecord
from layerstore_core.records.kept import KeptDocuments, Origin


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
    if origin is None:
        del own[image]
    else:
        own[image] = origin
    kept.set_names({**names, name: own})


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
        document = json.loads(kept.read(digest))
    except (ValueError, RecursionError) as error:
        raise BadRecord(kept.path_of(digest), f"not a manifest: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise BadRecord(kept.path_of(digest), "not a manifest: not a JSON object")
    return document


def annotations_in(document: dict[str, Any]) -> dict[str, str]:
    """Return the annotations of a manifest, an index or a descriptor that are text."""
    found = document.get("annotations")
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}
