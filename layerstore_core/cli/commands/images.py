"""`layerstore images`: list the images."""

from __future__ import annotations

import click

from layerstore_core.cli import output
from layerstore_core.cli.describe import image_document, short_length
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session


@click.command()
@json_option
@click.pass_obj
def images(session: Session) -> None:
    """List the images, with their IDs and sizes.

    SIZE is the size of all layers of the image. Images may share layers.

    \b
    Examples:
      layerstore images
      layerstore images --json | jq -r '.images[].id'
    """
    with session.open(reading=True) as store:
        from layerstore_core.images import Images

        found = Images(store).all()

    def lines() -> list[str]:
        digits = short_length([image.image_id for image in found])
        rows = [("NAME", "IMAGE ID", "CREATED", "SIZE")] if found else []
        for image in found:
            size = "layers missing" if image.size is None else output.human_size(image.size)
            for name in image.names or ("<none>",):
                created = output.printable(image.created[:19]) or "unknown"
                rows.append((output.printable(name), image.image_id.hex[:digits], created, size))
        return output.columns(rows)

    session.answer({"images": [image_document(image) for image in found]}, lines)
