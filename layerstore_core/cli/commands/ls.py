"""`layerstore ls`: list all layers as a tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from layerstore_core.base.digests import ChainID
from layerstore_core.cli import output
from layerstore_core.cli.describe import layer_document, short_length, snapshot_document
from layerstore_core.cli.listing import Listing, listing_options
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.store.store import LayerStore


FIELDS: Final = ("ID", "Size", "ChainSize", "Bytes", "DiffID", "Parent", "Pinned")
FILTERS: Final = ("dangling", "pinned", "image")


@click.command()
@json_option
@click.pass_obj
@listing_options(FILTERS, FIELDS)
def ls(session: Session, listing: Listing) -> None:
    """List the layers as a tree, with their sizes.

    A child is printed below its parent, and indented. SIZE is the size of the layer alone, CHAIN SIZE the size with
    all of its parents. Without filters, the snapshots follow that an engine such as containerd has in the store.

    \b
    Examples:
      layerstore ls
      layerstore ls --filter image=debian:12 -q
      layerstore ls --filter dangling=true --format '{{.ID}} {{.Size}}'
      layerstore ls --json | jq -r '.layers[].chain_id'
    """
    conditions = _Conditions.parse(listing.conditions)
    with session.open(reading=True) as store:
        pins = store.pins()
        layers = {chain: layer_document(layer, pinned=chain in pins) for chain, layer in store.layers().items()}
        is_chosen = conditions.test(store, pins)
        snapshots = [] if listing.conditions else [snapshot_document(row) for row in store.context.snapshots.ready()]
    ordered = tree_order({chain: layer["parent"] for chain, layer in layers.items()})
    ordered = [(chain, depth) for chain, depth in ordered if is_chosen(chain)]
    digits = None if listing.whole else short_length(layers.keys())

    def name(chain: ChainID | None) -> str | None:
        return None if chain is None else str(chain) if digits is None else chain.hex[:digits]

    def rows() -> list[dict[str, Any]]:
        found = []
        for chain, _ in ordered:
            layer = layers[chain]
            parent = None if layer["parent"] is None else ChainID.trusted(layer["parent"])
            found.append(
                {
                    "ID": name(chain),
                    "Size": output.human_size(layer["diff_size"]),
                    "ChainSize": output.human_size(layer["size"]),
                    "Bytes": layer["diff_size"],
                    "DiffID": layer["diff_id"],
                    "Parent": name(parent),
                    "Pinned": layer["pinned"],
                }
            )
        return found

    def table() -> list[str]:
        lines = [("CHAIN ID", "SIZE", "CHAIN SIZE", "PINNED")] if ordered else []
        for (_, depth), row in zip(ordered, rows(), strict=True):
            pinned = "yes" if row["Pinned"] else "no"
            lines.append(("  " * depth + row["ID"], row["Size"], row["ChainSize"], pinned))
        of_snapshots = _snapshot_lines(snapshots, name)
        return [*output.columns(lines), *([""] if lines and of_snapshots else []), *of_snapshots]

    listing.answer(
        session, lambda: {"layers": [layers[chain] for chain, _ in ordered], "snapshots": snapshots}, rows, table
    )


def _snapshot_lines(snapshots: Sequence[Mapping[str, Any]], name: Callable[[ChainID | None], str | None]) -> list[str]:
    if not snapshots:
        return []
    lines = [("SNAPSHOT", "KIND", "PARENT", "LAYER")]
    for snapshot in snapshots:
        chain = snapshot["chain_id"]
        if chain is not None:
            layer = name(ChainID.trusted(chain)) or ""
        else:
            layer = "its own" if snapshot["cache_id"] else "its parent's"  # a view need not have one
        parent = output.printable(snapshot["parent"] or "none")
        lines.append((output.printable(snapshot["key"]), snapshot["kind"], parent, layer))
    return output.columns(lines)


class _Conditions(NamedTuple):
    """The conditions of `--filter`; `None` or empty: any."""

    dangling: bool | None
    pinned: bool | None
    images: Sequence[str]

    @classmethod
    def parse(cls, conditions: Sequence[tuple[str, str]]) -> _Conditions:
        given: dict[str, list[str]] = {key: [] for key in FILTERS}
        for key, value in conditions:
            if key not in given:
                raise click.UsageError(f"there is no filter {key!r}; filters of layers are {', '.join(FILTERS)}")
            given[key].append(value)
        if not any(given.values()):
            return cls(None, None, ())
        from layerstore_core.images.filters import boolean

        try:
            return cls(boolean("dangling", given["dangling"]), boolean("pinned", given["pinned"]), given["image"])
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    def test(self, store: LayerStore, pins: set[ChainID]) -> Callable[[ChainID], bool]:
        """Return a function that returns whether a layer fulfils the conditions."""
        tests: list[Callable[[ChainID], bool]] = []
        if self.dangling is not None:
            dangling, wanted = {layer.chain_id for layer in store.unheld_layers()}, self.dangling
            tests.append(lambda chain: (chain in dangling) is wanted)
        if self.pinned is not None:
            is_pinned = self.pinned
            tests.append(lambda chain: (chain in pins) is is_pinned)
        if self.images:
            from layerstore_core.images import Images

            found = Images(store)
            of_images = {chain for name in self.images for chain in found.get(name).chain_ids}
            tests.append(lambda chain: chain in of_images)
        return lambda chain: all(test(chain) for test in tests)


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
