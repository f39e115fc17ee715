"""`layerstore tag`: add a name to an image."""

from __future__ import annotations

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import IMAGE, json_option
from layerstore_core.cli.session import Session


@click.command()
@click.argument("image", type=IMAGE)
@click.argument("name")
@json_option
@click.pass_obj
def tag(session: Session, image: str, name: str) -> None:
    """Add a name to an image, and print the name.

    The tag of NAME is 'latest' if it is left out. If another image has the name, the name moves to this image.

    \b
    Example:
      layerstore tag 3f1c9a2b example/app:1.0
    """
    with session.open(content=False) as store:
        from layerstore_core.images import Images

        given, image_id = Images(store).tag_image(image, name)
    session.answer({"name": str(given), "id": str(image_id)}, lambda: [output.printable(str(given))])
