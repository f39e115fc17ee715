"""`layerstore save`: write images to an archive or a layout."""

from __future__ import annotations

from typing import cast

import click

from layerstore_core.cli import output, progress
from layerstore_core.cli.describe import image_document
from layerstore_core.cli.parameters import IMAGE, PathType, json_option
from layerstore_core.cli.session import Session


@click.command()
@click.argument("image", type=IMAGE, nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    required=True,
    type=PathType(readable=False, allow_dash=True),
    help="File or directory to write, which appears whole or not at all; '-' is standard output.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["docker", "oci"]),
    default="docker",
    show_default=True,
    help="'docker' is an archive for 'docker load', 'oci' an OCI image layout.",
)
@json_option
@click.pass_obj
def save(session: Session, image: tuple[str, ...], file: str, form: str) -> None:
    """Write images to FILE; the same images give the same bytes.

    An image that is given by its ID is saved without a name. An OCI layout is written as a tar if the name of FILE
    ends in .tar, or if FILE is a pipe, a device or standard output. Otherwise it is written as a new directory.

    \b
    Examples:
      layerstore save debian:12 app:1.0 -o images.tar
      layerstore save app:1.0 -o app-layout --format oci
      layerstore save app:1.0 -o - | docker load
    """
    if file == "-":
        output.check_binary(session.json)
    with session.open(reading=True, content=True) as store:
        from layerstore_core.images import Images
        from layerstore_core.images.arguments import ImageFormat

        with progress.of_bytes("Saving") as report:
            target = output.StandardOutput() if file == "-" else file
            saved = Images(store).save(image, target, form=cast("ImageFormat", form), progress=report)
    if file == "-":
        return
    session.answer({"file": file, "format": form, "images": [image_document(item) for item in saved]}, lambda: ())
