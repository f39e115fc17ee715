"""`layerstore config`: make an image with another config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerstore_core.cli.config_options import config_options
from layerstore_core.cli.describe import image_answer
from layerstore_core.cli.parameters import IMAGE, json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.images.config.options import ConfigOptions


@click.command()
@click.argument("image", type=IMAGE)
@click.option("-t", "--tag", "name", metavar="NEW", required=True, help="Name of the new image.")
@config_options
@json_option
@click.pass_obj
def config(session: Session, image: str, name: str, options: ConfigOptions) -> None:
    """Make an image with another config, and print the image's ID.

    The new image has the same layers; none is read. If another image has the name NEW, it moves to the new image,
    so IMAGE and NEW may be the same name.

    An option sets a value; 'K-', or an empty text, removes it. A command is a JSON array, or a line for a shell. A
    new --entrypoint without --cmd removes the inherited command.

    \b
    Examples:
      layerstore config debian:12 -t example/app:1.0 --env LANG=C.UTF-8 --cmd '["bash"]'
      layerstore config debian:12 -t debian:12 --user nobody --label org.example.team=web --workdir /srv
    """
    if not options:
        raise click.UsageError("nothing is to be changed; give an option, or use 'layerstore tag' for another name")
    with session.open(content=False) as store:
        from layerstore_core.images import Images

        made = Images(store).configure(image, name, options)
    session.answer(*image_answer(made))
