"""`layerstore commit`: make an image from a writable layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerstore_core.cli import progress
from layerstore_core.cli.config_options import config_options
from layerstore_core.cli.describe import image_answer
from layerstore_core.cli.parameters import IMAGE, MOUNT_NAME, json_option
from layerstore_core.cli.session import Session
from layerstore_core.cli.values import MTIME

if TYPE_CHECKING:
    from layerstore_core.images.config.options import ConfigOptions


@click.command()
@click.argument("rw", type=MOUNT_NAME)
@click.argument("image")
@click.option("--base", metavar="IMAGE", type=IMAGE, help="Image that RW was created from. [default: as recorded]")
@click.option(
    "--mtime", metavar="TIME", type=MTIME, help="Time of all changed files, or SOURCE_DATE_EPOCH. [default: their own]"
)
@config_options
@json_option
@click.pass_obj
def commit(
    session: Session, *, rw: str, image: str, base: str | None, mtime: int | None, options: ConfigOptions
) -> None:
    """Make an image from a writable layer, and print the image's ID.

    The new image IMAGE has the config, history and layers of the image that the writable layer RW was created
    from, and the changes in RW as one more layer; without changes it has one more step in its history. RW is not
    changed. It may be mounted, but nothing may write to it meanwhile: then the command fails.

    The same changes, --mtime and --created (by default SOURCE_DATE_EPOCH) give the same image ID.

    If another image has the name IMAGE, it moves to the new one. 'layerstore config --help' explains the options
    that change the config.

    \b
    Examples:
      layerstore commit work example/app:1.0
      layerstore commit work example/app:1.0 --message 'Add the tool' --entrypoint '["/opt/tool"]'
      SOURCE_DATE_EPOCH=1700000000 layerstore commit work example/app:1.0 --mtime SOURCE_DATE_EPOCH
    """
    with session.open(adding=True) as store, store.get_rw_layer(rw) as layer:
        from layerstore_core.images import Images

        with progress.of_bytes("Committing") as report:
            made = Images(store).commit(layer, image, config=options, base=base, mtime=mtime, progress=report)
    session.answer(*image_answer(made))
