"""`layerstore import`: make an image of a root file system."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from layerstore_core.cli import progress
from layerstore_core.cli.config_options import config_options
from layerstore_core.cli.describe import image_answer
from layerstore_core.cli.input import interruptible
from layerstore_core.cli.parameters import PathType, json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.images.config.options import ConfigOptions


@click.command("import")
@click.argument("source", metavar="TAR|DIR", type=PathType(readable=False, allow_dash=True))
@click.option("-t", "--tag", "name", metavar="NEW", required=True, help="Name of the new image.")
@config_options
@json_option
@click.pass_obj
def import_(session: Session, source: str, name: str, options: ConfigOptions) -> None:
    """Make an image of a root file system, and print its ID.

    The image has one layer. TAR is a file, or '-' for standard input, and may be compressed with gzip, zstd, xz or
    bzip2. Its bytes become the layer: 'layerstore export' gives them back. The files of a DIR keep their owners and
    times, but those of an ordinary user who runs the command become root's; sockets are left out. What is
    mounted inside DIR is read, too: for the root of a running system give a tar made with --one-file-system.

    The config is empty but for the platform of this host and what the options set.

    \b
    Examples:
      layerstore import base.tar.gz -t base:1 --cmd /bin/sh
      zcat base.tar.gz | layerstore import - -t base:1
      layerstore import rootfs/ -t mine:1 --env PATH=/usr/bin:/bin --created 2026-01-02T03:04:05Z
    """
    given: str | BinaryIO = source
    if source == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
        if sys.stdin.isatty():
            raise click.UsageError(
                "standard input is a terminal; redirect a tar to it: layerstore import - -t NEW < root.tar"
            )
        given = interruptible(sys.stdin.buffer)
    with session.open(create=True) as store:
        from layerstore_core.images import Images

        with progress.of_bytes("Importing") as report:
            made = Images(store).import_root(given, name=name, config=options, progress=report)
    session.answer(*image_answer(made))
