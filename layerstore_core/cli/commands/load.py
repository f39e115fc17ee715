"""`layerstore load`: images from an archive or a layout."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from layerstore_core.cli import output, progress
from layerstore_core.cli.describe import image_document
from layerstore_core.cli.parameters import PLATFORM, json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.images.documents import Platform


@click.command()
@click.argument("file", type=click.Path(readable=False, allow_dash=True))
@click.option("--platform", metavar="OS/ARCH", type=PLATFORM, help="Which of several. [default: this host's]")
@click.option("--name", metavar="NAME", help="What to call the image, instead of its names in the archive.")
@json_option
@click.pass_obj
def load(session: Session, file: str, platform: Platform | None, name: str | None) -> None:
    """Load images from an archive or a layout.

    Prints their names, or the IDs of those without one. FILE is what 'docker save' writes, or an OCI image layout, as a tar or a directory; '-' is standard input. Every layer is verified. All
    images of FILE are loaded or, if anything is wrong with one, none.

    \b
    Examples:
      layerstore load debian.tar
      docker save debian:12 | layerstore load -
      layerstore load layout/ --platform linux/arm64 --name example/app:1.0
    """
    source: str | BinaryIO = file
    if file == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
        if sys.stdin.isatty():
            raise click.UsageError("standard input is a terminal; give it an archive: layerstore load - < image.tar")
        source = sys.stdin.buffer
    with session.open(create=True) as store:
        from layerstore_core.images import Images

        with progress.of_each_layer() as report:
            loaded = Images(store).load(source, platform=platform, name=name, progress=report)
    document = {"images": [image_document(image) for image in loaded]}
    session.answer(
        document, lambda: [output.printable(n) for image in loaded for n in image.names or (image.image_id,)]
    )
