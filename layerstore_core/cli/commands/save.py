"""`layerstore save`: images to an archive or a layout."""

from __future__ import annotations

from typing import cast

import click

from layerstore_core.cli import progress
from layerstore_core.cli.describe import image_document
from layerstore_core.cli.parameters import IMAGE, json_option
from layerstore_core.cli.session import Session


@click.command()
@click.argument("image", type=IMAGE, nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    required=True,
    type=click.Path(readable=False),
    help="Where to write; it appears whole or not at all.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["docker", "oci"]),
    default="docker",
    show_default=True,
    help="An archive for 'docker load', or an OCI image layout.",
)
@json_option
@click.pass_obj
def save(session: Session, image: tuple[str, ...], file: str, form: str) -> None:
    """Write images to FILE, the same bytes every time.

    An image that is called by its ID goes out without a name. An OCI layout is a tar if the name of FILE ends in .tar, and a new directory otherwise.

    \b
    Examples:
      layerstore save debian:12 app:1.0 -o images.tar
      layerstore save app:1.0 -o app-layout --format oci
      layerstore save app:1.0 -o /dev/stdout | docker load
    """
    with session.open(reading=True) as store:
        from layerstore_core.images import Images
        from layerstore_core.images.images import Format

        with progress.of_bytes("Saving") as report:
            saved = Images(store).save(image, file, form=cast("Format", form), progress=report)
    session.answer({"file": file, "format": form, "images": [image_document(item) for item in saved]}, lambda: ())
