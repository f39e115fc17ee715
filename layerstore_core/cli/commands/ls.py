"""`layerstore ls`: list all layers as a tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import click

from layerstore_core.base.digests import ChainID
from layerstore_core.base.structs import struct
from layerstore_core.cli.listing import Listing
from layerstore_core.cli.listing_options import listing_options
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.plain.layers import list_layers
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
    list_layers(session, listing, conditions.test)


@struct(frozen=True)
class _Conditions:
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
