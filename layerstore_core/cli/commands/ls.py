"""`layerstore ls`: all layers, as the tree that they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from layerstore_core.cli import output
from layerstore_core.cli.describe import layer_document, short_length
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.digests import ChainID
    from layerstore_core.layers import Layer


@click.command()
@json_option
@click.pass_obj
def ls(session: Session) -> None:
    """List the layers, each below its parent, with sizes.

    SIZE is the layer's own, CHAIN SIZE that of the layer and all below it.

    \b
    Examples:
      layerstore ls
      layerstore ls --json | jq -r '.layers[].chain_id'
    """
    with session.open(reading=True) as store:
        layers = store.layers()
        pins = store.pins()
        ordered = tree_order(layers)
        document = {"layers": [layer_document(layer, pinned=layer.chain_id in pins) for layer, _ in ordered]}
        depths = [depth for _, depth in ordered]
    digits = short_length(layers.keys())

    def lines() -> list[str]:
        rows = [("CHAIN ID", "SIZE", "CHAIN SIZE", "PINNED")] if ordered else []
        for depth, layer in zip(depths, document["layers"], strict=True):
            rows.append(
                (
                    "  " * depth + layer["chain_id"].removeprefix("sha256:")[:digits],
                    output.human_size(layer["diff_size"]),
                    output.human_size(layer["size"]),
                    "yes" if layer["pinned"] else "no",
                )
            )
        return output.columns(rows)

    session.answer(document, lines)


def tree_order(layers: Mapping[ChainID, Layer]) -> list[tuple[Layer, int]]:
    """The layers, each followed by its children in the order of their chain IDs, with the depth of each."""
    children: dict[ChainID | None, list[ChainID]] = {}
    for chain in sorted(layers, reverse=True):
        parent = layers[chain].parent
        children.setdefault(None if parent is None else parent.chain_id, []).append(chain)
    ordered = []
    waiting = [(chain, 0) for chain in children.get(None, ())]
    while waiting:
        chain, depth = waiting.pop()
        ordered.append((layers[chain], depth))
        waiting += [(child, depth + 1) for child in children.get(chain, ())]
    return ordered
