"""`layerstore append`: make an image of another one and one more layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from layerstore_core.cli import progress
from layerstore_core.cli.config_options import config_options
from layerstore_core.cli.describe import image_answer
from layerstore_core.cli.parameters import IMAGE, SOURCE, json_option
from layerstore_core.cli.session import Session
from layerstore_core.cli.values import MODE, MTIME, OWNER, usage_errors

if TYPE_CHECKING:
    from layerstore_core.images.config.options import ConfigOptions

#: The word for no image, as in a Dockerfile.
_NONE = "scratch"


@click.command()
@click.argument("image", type=IMAGE)
@click.argument("source", metavar="SOURCE[:DEST]...", type=SOURCE, nargs=-1, required=True)
@click.option("-t", "--tag", "name", metavar="NEW", required=True, help="Name of the new image.")
@click.option(
    "--chown", "owner", metavar="USER[:GROUP]", type=OWNER, help="Owner of everything. [default: 0:0; a tar's own]"
)
@click.option(
    "--chmod",
    "mode",
    metavar="MODE",
    type=MODE,
    help="Permission bits of everything, in octal. [default: the source's]",
)
@click.option(
    "--mtime", metavar="TIME", type=MTIME, help="Time of everything, or SOURCE_DATE_EPOCH. [default: the source's]"
)
@config_options
@json_option
@click.pass_obj
def append(
    session: Session,
    image: str,
    source: tuple[str, ...],
    *,
    name: str,
    owner: str | None,
    mode: int | None,
    mtime: int | None,
    options: ConfigOptions,
) -> None:
    """Make an image of IMAGE and one more layer, and print its ID.

    The layer has the files, directories and tars that SOURCE names. IMAGE 'scratch' is no image: the new one has
    this layer only. DEST is a path in the image and begins with a slash; without it SOURCE goes into the root.

    A directory's content goes into DEST, not the directory itself. A tar, compressed or not, is unpacked there; to
    add one as a file, add a directory that it is in. Any other file goes into DEST if that is a directory or ends
    with a slash; otherwise DEST is its path. Symbolic links of the image lead to where they do in the image.

    Symbolic links in a directory are kept. Sockets are left out. What is mounted in a directory is added, too; to
    leave it out, give a tar made with --one-file-system. Directories that the image has keep their metadata. The same
    sources, options and time (--created) give the same image ID.

    \b
    Examples:
      layerstore append debian:12 hello:/usr/bin/hello -t app:2 --entrypoint '["/usr/bin/hello"]'
      layerstore append debian:12 conf/:/etc/app site.tar.gz:/srv/www -t site:1 --chown 33:33
      layerstore append scratch hello:/hello -t tiny:1 --cmd '["/hello"]' --created 2026-01-02T03:04:05Z
    """
    from layerstore_core.images.make.sources import split_source

    for one in source:
        path = split_source(one)[0]
        if ":" in path and not os.path.lexists(path):
            raise click.UsageError(f"SOURCE {one!r} does not exist; if it has a DEST, that begins with a slash")
    with session.open(create=image == _NONE, adding=True) as store:
        from layerstore_core.images import Images

        with usage_errors(), progress.of_bytes("Appending") as report:
            made = Images(store).append(
                None if image == _NONE else image,
                [split_source(one) for one in source],
                name=name,
                owner=owner,
                mode=mode,
                mtime=mtime,
                config=options,
                progress=report,
            )
    session.answer(*image_answer(made))
