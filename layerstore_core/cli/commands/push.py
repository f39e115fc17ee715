"""`layerstore push`: push an image to a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerstore_core.cli.parameters import IMAGE, PLATFORM, json_option
from layerstore_core.cli.remote import transfers
from layerstore_core.cli.session import Session
from layerstore_core.errors import LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.images.formats.platforms import Platform


@click.command()
@click.argument("image", type=IMAGE)
@click.argument("ref", required=False)
@click.option(
    "--platform",
    metavar="OS/ARCH[/VARIANT]",
    type=PLATFORM,
    help="Platform to push, where IMAGE stands for several. [default: this host's]",
)
@click.option("--all-platforms", is_flag=True, help="Push the images for all platforms, with their index.")
@click.option(
    "--compression",
    metavar="METHOD[:LEVEL]",
    help="Compress all layers: gzip[:1-9], zstd[:1-22] or none. [default: as they came, otherwise gzip]",
)
@click.option("--referrers", is_flag=True, help="Push signatures, attestations and other artifacts of IMAGE, too.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
@click.pass_obj
def push(
    session: Session,
    image: str,
    ref: str | None,
    *,
    platform: Platform | None,
    all_platforms: bool,
    compression: str | None,
    referrers: bool,
    quiet: bool,
) -> None:
    """Push an image to a registry.

    Prints the digest of its manifest, or of its index with '--all-platforms'. REF is where it goes, such as
    registry.example.com/app:1.0; without it, that is the name of IMAGE. A name without a registry is one of docker.io.

    Only blobs that the registry does not have are sent; those of its other repositories are mounted. A layer keeps the
    digest that it came with, if the registry has that blob, the store has it or can make it again, or the registry that
    it was pulled from gives it again. The name in the registry changes last: a push that is interrupted does no harm.

    \b
    Examples:
      layerstore push app:1.0 registry.example.com/app:1.0
      layerstore push app:1.0 registry.example.com/app:zstd --compression zstd:19
      layerstore push -q app:1.0 registry.example.com/app:signed --all-platforms --referrers
    """
    with session.open(reading=True, content=True) as store:
        from layerstore_core.images import Images

        with transfers.of_blobs(as_json=session.json, quiet=quiet) as report:
            try:
                pushed = Images(store).push(
                    image,
                    ref,
                    platform=platform,
                    all_platforms=all_platforms,
                    compression=compression,
                    referrers=referrers,
                    progress=report,
                )
            except LayerStoreError:
                raise
            except ValueError as error:  # an unknown compression
                raise click.UsageError(str(error)) from None
    document = {
        "name": pushed.name,
        "digest": pushed.digest,
        "media_type": pushed.media_type,
        "blobs": [
            {"digest": one.digest, "size": one.size, "kind": one.kind, "state": one.state} for one in pushed.blobs
        ],
        "sent": pushed.sent,
        "manifests": [
            {"image": str(one.image_id), "digest": one.digest, "as_loaded": one.as_loaded} for one in pushed.manifests
        ],
        "referrers": list(pushed.referrers),
    }
    session.answer(document, lambda: [pushed.digest])
