"""`layerstore show`: show one layer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from layerstore_core.cli import output
from layerstore_core.cli.describe import layer_document, users_of
from layerstore_core.cli.parameters import CHAIN, json_option, resolve
from layerstore_core.cli.session import Session


@click.command()
@click.argument("chain", type=CHAIN)
@json_option
@click.pass_obj
def show(session: Session, chain: str) -> None:
    """Show a layer: its IDs, sizes, references and location.

    CHAIN is a chain ID or its first digits. The name or ID of an image means its topmost layer.

    \b
    Examples:
      layerstore show 3f1c9a2b
      layerstore show debian:12
    """
    with session.open(reading=True) as store:
        chain_id = resolve(store, chain)
        children, mounts = users_of(store, chain_id)
        with store.get(chain_id) as layer:
            descriptor = layer.descriptor
            document: dict[str, Any] = {
                **layer_document(layer, pinned=chain_id in store.pins()),
                "cache_id": layer.cache_id,
                "children": children,
                "rw_layers": mounts,
                "snapshots": [row.key for row in store.context.snapshots.ready() if row.chain_id == chain_id],
                "descriptor": None if descriptor is None else dict(descriptor),
                "metadata": dict(layer.metadata()),
            }
    session.answer(document, lambda: _lines(document))


def _lines(document: dict[str, Any]) -> Iterator[str]:
    def field(name: str, value: str) -> str:
        return f"{name + ':':<17}{value}"

    yield field("Chain ID", document["chain_id"])
    yield field("Diff ID", document["diff_id"])
    yield field("Parent", document["parent"] or "none")
    yield field("Size", f"{output.human_size(document['diff_size'])} ({document['diff_size']} bytes)")
    yield field("Chain size", f"{output.human_size(document['size'])} ({document['size']} bytes)")
    yield field("Pinned", "yes" if document["pinned"] else "no")
    yield field("Cache ID", document["cache_id"])
    yield field("Children", ", ".join(document["children"]) or "none")
    yield field("Writable layers", output.printable(", ".join(document["rw_layers"])) or "none")
    if document["snapshots"]:
        yield field("Snapshots", output.printable(", ".join(document["snapshots"])))
    if document["descriptor"] is not None:
        yield field("Descriptor", json.dumps(document["descriptor"]))
    for key, value in document["metadata"].items():
        yield field(key, output.printable(str(value)))
