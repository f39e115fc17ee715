"""`layerstore prune`: remove images that are not in use, and layers without references."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerstore_core.base.units import parse_duration, parse_size
from layerstore_core.cli import output
from layerstore_core.cli.describe import removed_document
from layerstore_core.cli.listing import IMAGE_FILTERS, FilterType
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session
from layerstore_core.cli.values import Parsed, usage_errors

if TYPE_CHECKING:
    from layerstore_core.maintenance.prune import Pruned


@click.command()
@click.option("-a", "--all", "named", is_flag=True, default=None, help="Also remove images that have a name.")
@click.option(
    "--older-than",
    metavar="DURATION",
    type=Parsed("duration", parse_duration),
    help="Remove only images that were not used for so long, such as 7d or 12h; also those that have a name.",
)
@click.option(
    "--keep-storage",
    metavar="SIZE",
    type=Parsed("size", parse_size),
    help="Stop when the layers that stay, and what is kept with them and with images, have this size or less, such as "
    "20G; also remove images that have a name.",
)
@click.option(
    "--filter",
    "conditions",
    metavar="KEY=VALUE",
    type=FilterType(IMAGE_FILTERS),
    multiple=True,
    help=f"Remove only images that fulfil this condition; may be repeated. Keys: {', '.join(IMAGE_FILTERS)}.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@json_option
@click.pass_obj
def prune(
    session: Session,
    *,
    named: bool | None,
    older_than: float | None,
    keep_storage: float | None,
    conditions: tuple[tuple[str, str], ...],
    dry_run: bool,
) -> None:
    """Remove images that are not in use, and unreferenced layers.

    Without options, images that have no name are removed. With --all, --older-than or --keep-storage those with a
    name are, too. All given conditions have to be fulfilled. Images that were not used for the longest time are
    removed first.

    An image stays if a writable layer, a mount, a process or a snapshot of an engine uses it, if its topmost layer is
    pinned, or if an image that stays was built from it.

    \b
    Examples:
      layerstore prune --dry-run
      layerstore prune --older-than 7d --keep-storage 20G
      layerstore prune --all --filter label!=keep
    """
    from layerstore_core.images.filters import ImageFilter

    with usage_errors():
        chosen = ImageFilter.parse(conditions)

    def remove() -> Pruned:
        with session.open() as store:
            from layerstore_core.maintenance import prune as pruning

            return pruning.prune(
                store,
                named=named,
                older_than=older_than,
                keep_storage=None if keep_storage is None else int(keep_storage),
                chosen=chosen,
                dry_run=dry_run,
            )

    def answer(pruned: Pruned) -> None:
        if pruned and not session.json:
            click.echo(f"{'Would free' if dry_run else 'Freed'} {output.human_size(pruned.bytes)}", err=True)
        document = {
            "dry_run": dry_run,
            "freed": pruned.bytes,
            "untagged": pruned.untagged,
            "deleted": [str(image) for image in pruned.deleted],
            **removed_document(pruned.layers),
        }
        session.answer(
            document,
            lambda: [
                *(f"name {output.printable(name)}" for name in pruned.untagged),
                *(f"image {image}" for image in pruned.deleted),
                *(f"layer {layer.chain_id}" for layer in pruned.layers),
            ],
        )

    session.answer_for(remove, answer)
