"""`layerstore rootfs`: write the tree of an image to a directory or a tar."""

from __future__ import annotations

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import CHAIN, PathType, json_option
from layerstore_core.cli.session import Session


@click.command()
@click.argument("image", metavar="IMAGE|CHAIN", type=CHAIN)
@click.option(
    "-o",
    "--output",
    "file",
    metavar="DIR|TAR",
    required=True,
    type=PathType(readable=False, allow_dash=True),
    help="Where to write. A name that ends in '.tar' is a tar; '-' is one on standard output.",
)
@json_option
@click.pass_obj
def rootfs(session: Session, image: str, file: str) -> None:
    """Write the tree of an image, all layers merged, to DIR or TAR.

    A tar is sorted, has all metadata, and is the same bytes each time. DIR has to be new or empty. As root it keeps
    all metadata; as an ordinary user all files belong to that user, and devices are left out, with a warning.

    DIR or TAR appears whole or not at all. On standard output, only exit code 0 says that the whole tar was right.

    \b
    Examples:
      layerstore rootfs debian:12 -o debian/
      layerstore rootfs debian:12 -o debian.tar
      layerstore rootfs debian:12 -o - | tar -t
    """
    if file == "-":
        output.check_binary(session.json)
    with session.open(reading=True, content=True) as store:
        from layerstore_core.cli.views import opened_view
        from layerstore_core.images.api.trees import write_tree

        with opened_view(store, image) as opened:
            if file == "-":
                out = output.StandardOutput()
                write_tree(opened.view, out)
                out.flush()
                return
            write_tree(opened.view, file.rstrip("/") or "/")
            document = {"id": opened.image_id, "chain_id": opened.chain_id, "file": file}
    session.answer(document, lambda: ())
