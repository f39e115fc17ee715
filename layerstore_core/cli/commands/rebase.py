"""`layerstore rebase`: put an image's own layers on another base image."""

from __future__ import annotations

import click

from layerstore_core.cli.describe import image_answer
from layerstore_core.cli.parameters import CHAIN, IMAGE, json_option, resolve_image_or_chain
from layerstore_core.cli.session import Session
from layerstore_core.cli.values import CREATED


@click.command()
@click.argument("image", type=IMAGE)
@click.option("--old", metavar="BASE", type=CHAIN, required=True, help="Base of IMAGE: an image or a chain.")
@click.option("--new", metavar="BASE", type=CHAIN, required=True, help="New base: an image or a chain.")
@click.option("-t", "--tag", "name", metavar="NEW", required=True, help="Name of the new image.")
@click.option("--created", metavar="TIME", type=CREATED, help="Time of the image. [default: SOURCE_DATE_EPOCH, or now]")
@json_option
@click.pass_obj
def rebase(session: Session, *, image: str, old: str, new: str, name: str, created: str | None) -> None:
    """Put an image's own layers on another base, and print its ID.

    The new image NEW has the layers that IMAGE has above its old base, on the new base. Settings of the config
    that IMAGE has unchanged from its old base follow the new base; those that it has set, changed or removed stay
    so. The history is the new base's, followed by the image's own steps.

    It is an error if the layers of the old base are not the first layers of IMAGE.

    \b
    Example:
      layerstore rw create work --image debian:12
      layerstore commit work example/app:1.0
      layerstore rebase example/app:1.0 --old debian:12 --new debian:13 -t example/app:1.1
    """
    with session.open(adding=True) as store:
        from layerstore_core.images import Images

        bases = resolve_image_or_chain(store, old), resolve_image_or_chain(store, new)
        made = Images(store).rebase(image, *bases, name, created=created)
    session.answer(*image_answer(made))
