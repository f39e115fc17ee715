"""`layerstore ls`: list all layers as a tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from layerstore_core.cli import output
from layerstore_core.cli.describe import layer_document, short_length
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.base.digests import ChainID


@click.command()
@json_option
@click.pass_obj
def ls(session: Session) -> None:
    """List the layers as a tree, with their sizes.

    A child is printed below its parent, and indented. SIZE is the size of the layer alone, CHAIN SIZE the size with
    all of its parents.

    \b
    Examples:
      layerstore ls
      layerstore ls --json | jq -r '.layers[].chain_id'
    """
    with session.open(reading=True) as store:
        pins = store.pins()
        layers = {chain: layer_document(layer, pinned=chain in pins) for chain, layer in store.layers().items()}
    ordered = tree_order({chain: layer["parent"] for chain, layer in layers.items()})

    def lines() -> list[str]:
        digits = short_length(layers.keys())
        rows = [("CHAIN ID", "SIZE", "CHAIN SIZE", "PINNED")] if ordered else []
        for chain, depth in ordered:
            layer = layers[chain]
            rows.append(
                (
                    "  " * depth + chain.hex[:digits],
                    output.human_size(layer["diff_size"]),
                    output.human_size(layer["size"]),
                    "yes" if layer["pinned"] else "no",
                )
            )
        return output.columns(rows)

    session.answer({"layers": [layers[chain] for chain, _ in ordered]}, lines)


def tree_order(parents: Mapping[ChainID, str | None]) -> list[tuple[ChainID, int]]:
    """Return the layers, each followed by its children in the order of their chain IDs, with the depth of each.

    Args:
        parents: maps each layer to its parent's chain ID, or to `None`.

    Returns:
        Pairs of a chain ID and the number of its ancestors.
    """
    children: dict[str | None, list[ChainID]] = {}
    for chain in sorted(parents, reverse=True):
        children.setdefault(parents[chain], []).append(chain)
    ordered = []
    waiting = [(chain, 0) for chain in children.get(None, ())]
    while waiting:
        chain, depth = waiting.pop()
        ordered.append((chain, depth))
        waiting += [(child, depth + 1) for child in children.get(chain, ())]
    return ordered
