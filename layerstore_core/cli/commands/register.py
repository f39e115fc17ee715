"""`layerstore register`: register a tar as a layer."""

from __future__ import annotations

import click

from layerstore_core.cli.parameters import CHAIN, PathType, json_option, resolve_parent
from layerstore_core.cli.plain.layers import register_tar
from layerstore_core.cli.session import Session


@click.command()
@click.argument("tar", type=PathType(dir_okay=False, readable=False, allow_dash=True))
@click.option("--parent", metavar="CHAIN", type=CHAIN, help="Parent of the new layer: a layer or an image.")
@click.option("--allow-empty", is_flag=True, help="Accept a TAR of no bytes as an empty layer.")
@json_option
@click.pass_obj
def register(session: Session, tar: str, parent: str | None, allow_empty: bool) -> None:
    """Register a tar as a layer, and print its chain ID.

    TAR is a file, or '-' for standard input. It may be compressed with gzip, zstd, xz or bzip2. The layer is
    pinned: it stays until 'layerstore rm' removes it. A layer that the store has already is not stored again.

    A TAR of no bytes is refused, because the program that should have written it may have failed.

    \b
    Examples:
      layerstore register base.tar
      zcat app.tar.gz | layerstore register - --parent 3f1c9a2b
    """
    register_tar(session, tar, lambda store: resolve_parent(store, parent), allow_empty=allow_empty)
