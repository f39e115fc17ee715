"""`layerstore pull`: pull an image from a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerstore_core.cli import output
from layerstore_core.cli.describe import image_document, referrer_document
from layerstore_core.cli.parameters import IMAGE, PLATFORM, json_option
from layerstore_core.cli.remote import transfers
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.images.formats.platforms import Platform


@click.command()
@click.argument("ref", type=IMAGE)
@click.option(
    "--platform",
    metavar="OS/ARCH[/VARIANT]",
    type=PLATFORM,
    help="Platform to pull of a multi-platform image. [default: this host's]",
)
@click.option(
    "--all-platforms", is_flag=True, help="Pull a multi-platform image for all its platforms, under one name."
)
@click.option("--name", metavar="NAME", help="Name for the image, instead of REF.")
@click.option("--referrers", is_flag=True, help="Pull signatures, attestations and other artifacts of the image, too.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
@click.pass_obj
def pull(
    session: Session,
    ref: str,
    *,
    platform: Platform | None,
    all_platforms: bool,
    name: str | None,
    referrers: bool,
    quiet: bool,
) -> None:
    """Pull an image from a registry.

    Prints the digest of its manifest, or of its index if REF stands for several platforms. REF is the name of an image,
    such as debian:12 or registry.example.com/app:1.0, or NAME@DIGEST. A name without a registry is one of docker.io.

    Layers that are here are not received; the others are received several at once, verified, and unpacked meanwhile. An
    interrupted pull goes on where it stopped. A layer that another process receives is waited for.

    \b
    Examples:
      layerstore pull registry.example.com/app:1.0
      layerstore pull registry.example.com/app:1.0 --platform linux/arm64 --name app:arm
      layerstore pull -q registry.example.com/app:1.0 --all-platforms --referrers
    """
    with session.open(create=True) as store:
        from layerstore_core.images import Images

        with transfers.of_blobs(as_json=session.json, quiet=quiet) as report:
            pulled = Images(store).pull(
                ref,
                platform=platform,
                all_platforms=all_platforms,
                name=name,
                referrers=referrers,
                progress=report,
            )
    document = {
        "name": pulled.name,
        "digest": pulled.digest,
        "images": [image_document(image) for image in pulled],
        "fetched": pulled.fetched,
        "downloaded": pulled.downloaded,
        "present": pulled.present,
        "skipped": [{"what": item.what, "kind": item.kind, "reason": item.reason} for item in pulled.skipped],
        "referrers": [referrer_document(one) for one in pulled.referrers],
    }
    if not (session.json or quiet):
        for item in pulled.skipped:
            click.echo(
                f"skipped {output.printable(item.what)}: {output.printable(item.reason, backslash=False)}", err=True
            )
    session.answer(document, lambda: [pulled.digest])
