"""`layerstore squash`: make an image whose upper layers are one."""

from __future__ import annotations

import click

from layerstore_core.cli import progress
from layerstore_core.cli.describe import image_answer
from layerstore_core.cli.parameters import IMAGE, json_option
from layerstore_core.cli.session import Session
from layerstore_core.cli.values import CREATED, usage_errors


@click.command()
@click.argument("image", type=IMAGE)
@click.option("-t", "--tag", "name", metavar="NEW", required=True, help="Name of the new image.")
@click.option("--keep", metavar="N", type=click.IntRange(min=0), help="Number of lower layers that stay. [default: 0]")
@click.option("--from", "since", metavar="LAYER", help="Lowest layer to squash: digits of its chain ID or diff ID.")
@click.option("--created", metavar="TIME", type=CREATED, help="Time of the image. [default: SOURCE_DATE_EPOCH, or now]")
@click.option("--message", metavar="TEXT", default="", help="Comment for the image's history.")
@json_option
@click.pass_obj
def squash(
    session: Session, image: str, *, name: str, keep: int | None, since: str | None, created: str | None, message: str
) -> None:
    """Make one layer of the upper layers of an image, or of all.

    Prints the ID of the new image. The tree is the same. What a squashed layer has made and another one has deleted
    is gone; deletions stay only of what a layer that stays has. The config stays, too, but for its time. The history
    keeps all its steps, those of squashed layers without a layer, and gets one more.

    \b
    Examples:
      layerstore squash app:1 -t app:small
      layerstore squash app:1 -t app:small --keep 0 --created 2026-01-02T03:04:05Z
    """
    if keep is not None and since is not None:
        raise click.UsageError("--keep and --from both say which layers stay; give one of them")
    with session.open(adding=True) as store:
        from layerstore_core.images import Images

        with usage_errors(), progress.of_bytes("Squashing") as report:
            made = Images(store).squash(
                image, name=name, keep=keep or 0, since=since, created=created, message=message, progress=report
            )
    session.answer(*image_answer(made))
