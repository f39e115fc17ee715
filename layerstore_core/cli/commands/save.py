"""`layerstore save`: write images to an archive or a layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from layerstore_core.cli import output, progress
from layerstore_core.cli.describe import image_document
from layerstore_core.cli.parameters import IMAGE, PLATFORM, PathType, json_option
from layerstore_core.cli.session import Session
from layerstore_core.errors import LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.images.formats.platforms import Platform


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
    type=click.Choice(["docker", "oci", "dir"]),
    default="docker",
    show_default=True,
    help="'docker' is an archive for 'docker load', 'oci' an OCI image layout, 'dir' a directory of Skopeo.",
)
@click.option(
    "--compression",
    metavar="METHOD[:LEVEL]",
    help="Compress all layers: gzip[:1-9], zstd[:1-22] or none. [default: as they were loaded, if possible]",
)
@click.option(
    "--platform",
    metavar="OS/ARCH",
    type=PLATFORM,
    help="Platform to save, where IMAGE stands for several. [default: this host's]",
)
@click.option("--all-platforms", is_flag=True, help="Save the images for all platforms, with their index.")
@click.option("--referrers", is_flag=True, help="Save signatures, attestations and other artifacts of IMAGE, too.")
@json_option
@click.pass_obj
def save(
    session: Session,
    image: tuple[str, ...],
    file: str,
    *,
    form: str,
    compression: str | None,
    platform: Platform | None,
    all_platforms: bool,
    referrers: bool,
) -> None:
    """Write images to FILE; the same images give the same bytes.

    An image that is given by its ID is saved without a name. An OCI layout is written as a tar if the name of FILE
    ends in .tar, or if FILE is a pipe, a device or standard output. Otherwise it is written as a new directory.

    In the formats 'oci' and 'dir' an image gets the manifest and digest that it was loaded with, if its layers can be
    had as they were; the JSON answer says so.

    \b
    Examples:
      layerstore save debian:12 app:1.0 -o images.tar
      layerstore save app:1.0 -o app-layout --format oci
      layerstore save app:1.0 -o app-zstd.tar --format oci --compression zstd:19
      layerstore save app:1.0 -o app-signed --format oci --all-platforms --referrers
      layerstore save app:1.0 -o - | docker load
    """
    if file == "-":
        output.check_binary(session.json)
    with session.open(reading=True, content=True) as store:
        from layerstore_core.images import Images
        from layerstore_core.images.arguments import ImageFormat

        with progress.of_bytes("Saving") as report:
            target = output.StandardOutput() if file == "-" else file
            try:
                saved = Images(store).save(
                    image,
                    target,
                    form=cast("ImageFormat", form),
                    compression=compression,
                    platform=platform,
                    all_platforms=all_platforms,
                    referrers=referrers,
                    progress=report,
                )
            except LayerStoreError:
                raise
            except ValueError as error:  # options that do not go together
                raise click.UsageError(str(error)) from None
    if file == "-":
        return
    document = {
        "file": file,
        "format": form,
        "images": [image_document(item) for item in saved],
        "manifests": [
            {"image": str(one.image_id), "digest": one.digest, "as_loaded": one.as_loaded} for one in saved.manifests
        ],
    }
    session.answer(document, lambda: ())
