"""`layerstore load`: load images from an archive or a layout."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from layerstore_core.cli import output, progress
from layerstore_core.cli.describe import image_document, referrer_document
from layerstore_core.cli.parameters import PLATFORM, PathType, json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.images.formats.platforms import Platform

#: At most this many skipped items are listed on standard error.
_SHOWN: Final = 20


@click.command()
@click.argument("file", type=PathType(readable=False, allow_dash=True))
@click.option(
    "--platform",
    metavar="OS/ARCH",
    type=PLATFORM,
    help="Platform to load from a multi-platform image. [default: this host's]",
)
@click.option(
    "--all-platforms", is_flag=True, help="Load a multi-platform image for all its platforms, under one name."
)
@click.option("--name", metavar="NAME", help="Name for the image, instead of its names in FILE.")
@click.option(
    "--image",
    "wanted",
    metavar="NAME|DIGEST",
    multiple=True,
    help="Load only this image of FILE; may be repeated. [default: all]",
)
@json_option
@click.pass_obj
def load(
    session: Session,
    file: str,
    *,
    platform: Platform | None,
    all_platforms: bool,
    name: str | None,
    wanted: tuple[str, ...],
) -> None:
    """Load images from an archive or a layout.

    Prints their names, and the IDs of images without a name. FILE is a tar or a directory: an archive from
    'docker save', an OCI image layout, or a 'dir:' layout of Skopeo. '-' is standard input.

    Every layer is verified. Layers that the store has may be missing in FILE. Manifests, indexes, signatures,
    attestations and other artifacts of the images are kept; 'save' gives them back. An item that cannot be used on
    this system (an image for another platform, an image with a missing part, an artifact of something else) is
    skipped, with a line on standard error. It is an error only if no image is left to load.

    \b
    Examples:
      layerstore load debian.tar
      layerstore load debian.tar --image debian:12
      docker save debian:12 | layerstore load -
      layerstore load layout/ --platform linux/arm64 --name example/app:1.0
      layerstore load layout/ --all-platforms
    """
    source: str | BinaryIO = file
    if file == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
        if sys.stdin.isatty():
            raise click.UsageError(
                "standard input is a terminal; redirect an archive to it: layerstore load - < image.tar"
            )
        source = sys.stdin.buffer
    with session.open(create=True) as store:
        from layerstore_core.images import Images

        with progress.of_each_layer() as report:
            loaded = Images(store).load(
                source, platform=platform, all_platforms=all_platforms, name=name, wanted=wanted, progress=report
            )
    document = {
        "images": [image_document(image) for image in loaded],
        "skipped": [{"what": item.what, "kind": item.kind, "reason": item.reason} for item in loaded.skipped],
        "referrers": [referrer_document(one) for one in loaded.referrers],
    }
    if not session.json:
        for item in loaded.skipped[:_SHOWN]:
            click.echo(
                f"skipped {output.printable(item.what)}: {output.printable(item.reason, backslash=False)}", err=True
            )
        if len(loaded.skipped) > _SHOWN:
            click.echo(f"skipped {len(loaded.skipped) - _SHOWN} more; use --json to list all", err=True)
    # Images for several platforms have a name in common.
    words = dict.fromkeys(name for image in loaded for name in image.names or (image.image_id,))
    session.answer(document, lambda: map(output.printable, words))
