"""What `inspect --remote` says of an image in a registry."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layerstore_core.base.digests import chain_ids
from layerstore_core.cli import output
from layerstore_core.cli.describe import details_lines, field_line, referrer_document
from layerstore_core.cli.remote.option import Remote, open_remote
from layerstore_core.cli.session import Session
from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.documents import Descriptor
from layerstore_core.log import logger

if TYPE_CHECKING:
    from layerstore_core.images.remote.image import RegistryImage


def inspect_remote(session: Session, reference: str, remote: Remote, *, raw: bool) -> None:
    """Show an image in a registry, or print its manifest or index byte for byte.

    Raises:
        RegistryError, InvalidImage: there is no such image, or it is damaged.
    """
    if raw:
        data = _raw(session, reference, remote)
        out = output.StandardOutput()
        out.write(data)
        out.flush()
        return
    with open_remote(session, reference, remote) as image:
        document = _document(image)
    session.answer(document, lambda: _lines(document))


def _raw(session: Session, reference: str, remote: Remote) -> bytes:
    if remote.platform is not None:
        with open_remote(session, reference, remote) as image:
            return image.manifest.data
    from layerstore_core.base.reference import Reference
    from layerstore_core.registry import Registry

    name = Reference.parse(reference)
    with Registry(name.domain, settings=session.config().registries) as registry:
        return registry.manifest(name.path, name.digest or name.tag or "latest").data


def _document(image: RegistryImage) -> dict[str, Any]:
    """Return the keys of an image's document in the store, and those that only an image in a registry has."""
    config = None if image.artifact_type else image.config
    diff_ids: Sequence[Any] = [None] * len(image.layers) if config is None else config.diff_ids
    chains: Sequence[Any] = diff_ids if config is None else chain_ids(config.diff_ids)
    document = {
        "id": None if config is None else str(config.image_id),
        "names": [image.reference.full_name],
        "platform": None if config is None or image.platform is None else str(image.platform),
        "created": "" if config is None else _created(config.document),
        "digests": sorted({image.digest, image.manifest.digest}),
        "annotations": dict(image.annotations),
        "referrers": _referrers(image),
        "parent": None,
        "size": None,
        "chain_id": str(chains[-1]) if chains and config is not None else None,
        "layers": [
            {
                "chain_id": None if chain is None else str(chain),
                "diff_id": None if diff_id is None else str(diff_id),
                "diff_size": None,
                "descriptor": dict(layer.document),
                "table_of_contents": _table_of(layer),
            }
            for layer, diff_id, chain in zip(image.layers, diff_ids, chains, strict=True)
        ],
        "config": None if config is None else dict(config.document),
        "digest": image.digest,
        "media_type": image.media_type,
        "manifest_digest": image.manifest.digest,
        "manifest": dict(image.manifest.document),
        "index": None if image.index is None else dict(image.index),
        "artifact_type": image.artifact_type or None,
        "compressed_size": sum(layer.size for layer in image.layers),
    }
    try:
        json.dumps(document, allow_nan=False)
    except (RecursionError, ValueError) as error:
        why = "is nested too deep" if isinstance(error, RecursionError) else "has a number that JSON does not have"
        raise InvalidImage(f"{image.reference}: a document of the image {why}; --raw prints one as it is") from None
    return document


def _referrers(image: RegistryImage) -> list[dict[str, Any]]:
    """Return the artifacts that the registry lists for the image. One that cannot list them says so in a warning."""
    from layerstore_core.registry import RegistryError

    try:
        return [referrer_document(one) for one in image.referrers()]
    except RegistryError as error:
        logger.warning("the artifacts that belong to {} are not known: {}", image.reference, error)
        return []


def _created(config: Mapping[str, Any]) -> str:
    found = config.get("created")
    return found if isinstance(found, str) else ""


def _table_of(layer: Descriptor) -> str | None:
    from layerstore_core.images.remote.lazy.place import place_of

    place = place_of(layer.annotations, layer.size)
    return None if place is None else place.form


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield field_line("Name", document["names"][0])
    yield field_line("Digest", document["digest"])
    if document["index"] is not None:
        yield field_line("Manifest", document["manifest_digest"])
    yield field_line("Media type", document["media_type"])
    if document["artifact_type"]:
        yield field_line("Artifact", document["artifact_type"])
    else:
        yield field_line("Image ID", document["id"])
        yield field_line("Platform", document["platform"] or "unknown")
        yield field_line("Created", document["created"] or "unknown")
    size = document["compressed_size"]
    yield field_line("Compressed", f"{output.human_size(size)} ({size} bytes)")
    yield from details_lines(document)
    if document["layers"]:
        yield "Layers, the base first:"
        rows = [("DIGEST", "COMPRESSED", "TABLE OF CONTENTS")]
        for layer in document["layers"]:
            descriptor = layer["descriptor"]
            size = output.human_size(descriptor["size"])
            rows.append((descriptor["digest"], size, layer["table_of_contents"] or "none"))
        yield from (f"  {line}" for line in output.columns(rows))
    if document["index"] is not None:
        yield "The index lists:"
        yield from (f"  {line}" for line in output.columns(_entries(document["index"])))


def _entries(index: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = [("PLATFORM", "DIGEST", "SIZE")]
    for item in index["manifests"]:
        try:
            entry = Descriptor.of(item, "the index")
        except InvalidImage:
            rows.append(("damaged", "", ""))
            continue
        platform = "unknown" if entry.platform is None else output.printable(str(entry.platform))
        rows.append((platform, entry.digest, str(entry.size)))
    return rows
