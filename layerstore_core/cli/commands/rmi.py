"""`layerstore rmi`: remove images, or names of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerstore_core.cli import output
from layerstore_core.cli.describe import removed_document
from layerstore_core.cli.parameters import IMAGE, json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.images import Removal


@click.command()
@click.argument("image", type=IMAGE, nargs=-1, required=True)
@click.option(
    "-f", "--force", is_flag=True, help="Remove the image even if writable layers use it, or if it has several names."
)
@json_option
@click.pass_obj
def rmi(session: Session, image: tuple[str, ...], force: bool) -> None:
    """Remove images, or names of images.

    An image is removed with its last name, together with its layers that nothing else refers to. Prints a line for
    each removed name, image and layer, even if a later one cannot be removed.

    \b
    Example:
      layerstore rmi example/app:1.0
    """

    def remove() -> Removal:
        with session.open() as store:
            from layerstore_core.images import Images

            return Images(store).remove(image, force=force)

    def answer(removal: Removal) -> None:
        document = {
            "untagged": removal.untagged,
            "deleted": [str(image_id) for image_id in removal.deleted],
            **removed_document(removal.layers),
        }
        session.answer(
            document,
            lambda: [
                *(f"name {output.printable(name)}" for name in removal.untagged),
                *(f"image {image_id}" for image_id in removal.deleted),
                *(f"layer {layer.chain_id}" for layer in removal.layers),
            ],
        )

    session.answer_for(remove, answer)
