"""`layerstore images`: list the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from layerstore_core.cli import output
from layerstore_core.cli.describe import SHORT, image_document, short_length
from layerstore_core.cli.listing import IMAGE_FILTERS, Listing, listing_options, text_of
from layerstore_core.cli.parameters import PLATFORM, json_option
from layerstore_core.cli.session import Session
from layerstore_core.cli.values import usage_errors

if TYPE_CHECKING:
    from layerstore_core.images import Image
    from layerstore_core.images.formats.platforms import Platform

FIELDS: Final = (
    "Name",
    "ID",
    "Repository",
    "Tag",
    "Digest",
    "Platform",
    "CreatedAt",
    "Size",
    "Bytes",
    "ChainID",
)


@click.command()
@click.option("--platform", metavar="OS/ARCH", type=PLATFORM, help="List only the images that run on this platform.")
@json_option
@click.pass_obj
@listing_options(IMAGE_FILTERS, FIELDS)
def images(session: Session, listing: Listing, platform: Platform | None) -> None:
    """List the images, with their IDs and sizes.

    SIZE is the size of all layers of the image. Images may share layers, and images for several platforms a name.

    \b
    Examples:
      layerstore images
      layerstore images --filter 'reference=debian:*' -q
      layerstore images --filter dangling=true --format '{{.ID}} {{.Size}}'
      layerstore images --json | jq -r '.images[].id'
    """
    from layerstore_core.images.filters import ImageFilter

    with usage_errors():
        chosen = ImageFilter.parse(listing.conditions)
    with session.open(reading=True) as store:
        from layerstore_core.images import Images
        from layerstore_core.images.details import Digests

        found = Images(store).all(chosen, platform=platform)
        known = Digests(store.context.kept)
        digests = [[known.of(image.image_id, name) for name in image.names or (None,)] for image in found]
    digits = None if listing.whole else short_length([image.image_id for image in found])

    def rows() -> list[dict[str, Any]]:
        return [
            _row(image, name, digest, digits)
            for image, of_names in zip(found, digests, strict=True)
            for name, digest in zip(image.names or (None,), of_names, strict=True)
        ]

    def table() -> list[str]:
        lines = [("NAME", "IMAGE ID", "DIGEST", "PLATFORM", "CREATED", "SIZE")] if found else []
        for row in rows():
            created = output.printable(row["CreatedAt"][:19]) or "unknown"
            size = "layers missing" if row["Size"] is None else row["Size"]
            platform = output.printable(row["Platform"] or "unknown")
            digest = row["Digest"]
            if digest is not None and not listing.whole:
                digest = digest.partition(":")[2][:SHORT]
            lines.append((text_of(row["Name"]), row["ID"], text_of(digest), platform, created, size))
        return output.columns(lines)

    def document() -> dict[str, Any]:
        pairs = zip(found, digests, strict=True)
        return {"images": [{**image_document(image), "digest": of_names[0]} for image, of_names in pairs]}

    listing.answer(session, document, rows, table)


def _row(image: Image, name: str | None, digest: str | None, digits: int | None) -> dict[str, Any]:
    """Return the fields of one name of an image."""
    repository = tag = None
    if name is not None:
        repository, at, in_name = name.partition("@")
        digest = in_name or digest
        if not at:
            repository, _, tag = name.rpartition(":")
    return {
        "Name": name,
        "ID": str(image.image_id) if digits is None else image.image_id.hex[:digits],
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "Platform": None if image.platform is None else str(image.platform),
        "CreatedAt": image.created,
        "Size": None if image.size is None else output.human_size(image.size),
        "Bytes": image.size,
        "ChainID": None if image.chain_id is None else str(image.chain_id),
    }
