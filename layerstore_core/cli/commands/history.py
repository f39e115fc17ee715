"""`layerstore history`: show the steps by which an image was built."""

from __future__ import annotations

import click

from layerstore_core.base.digests import ChainID
from layerstore_core.cli import output
from layerstore_core.cli.parameters import IMAGE, json_option
from layerstore_core.cli.session import Session


@click.command()
@click.argument("image", type=IMAGE)
@json_option
@click.pass_obj
def history(session: Session, image: str) -> None:
    """Show the steps by which an image was built.

    The last step comes first. LAYER is the chain ID of the layer that the step made, or "none".

    \b
    Example:
      layerstore history debian:12
    """
    with session.open(reading=True) as store:
        from layerstore_core.images import Images

        images = Images(store)
        found = images.get(image)
        steps = [
            {
                "created": step.created,
                "created_by": step.created_by,
                "comment": step.comment,
                "chain_id": None if step.layer is None else str(step.layer),
                "size": step.size,
            }
            for step in images.history(found)
        ]
    document = {"id": str(found.image_id), "history": steps}

    def lines() -> list[str]:
        rows = [("LAYER", "CREATED", "SIZE", "CREATED BY")] if steps else []
        for step in steps:
            layer = "none" if step["chain_id"] is None else ChainID(str(step["chain_id"])).hex[:12]
            created = output.printable(str(step["created"])[:19]) or "unknown"
            size = output.human_size(int(str(step["size"])))
            rows.append((layer, created, size, output.printable(str(step["created_by"]))))
        return output.columns(rows)

    session.answer(document, lines)
