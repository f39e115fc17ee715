"""`layerstore rmi`: remove images, or names of them."""

from __future__ import annotations

import click

from layerstore_core.cli import output
from layerstore_core.cli.commands.rm import removed_document
from layerstore_core.cli.parameters import IMAGE, json_option
from layerstore_core.cli.session import Session


@click.command()
@click.argument("image", type=IMAGE, nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Also where writable layers stand on it, or it has several names.")
@json_option
@click.pass_obj
def rmi(session: Session, image: tuple[str, ...], force: bool) -> None:
    """Remove images, or names of them.

    With its last name an image goes, and the layers that nothing else holds. Prints a line for each name, image and layer that is gone.

    \b
    Example:
      layerstore rmi example/app:1.0
    """
    untagged, deleted, layers = [], [], []
    with session.open() as store:
        from layerstore_core.images import Images

        for name in image:
            removal = Images(store).remove(name, force=force)
            untagged += removal.untagged
            deleted += removal.deleted
            layers += removal.layers
    document = {"untagged": untagged, "deleted": [str(image_id) for image_id in deleted], **removed_document(layers)}
    session.answer(
        document,
        lambda: [
            *(f"name {output.printable(name)}" for name in untagged),
            *(f"image {image_id}" for image_id in deleted),
            *(f"layer {layer.chain_id}" for layer in layers),
        ],
    )
