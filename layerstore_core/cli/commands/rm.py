"""`layerstore rm`: let go of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from layerstore_core.cli.describe import holders
from layerstore_core.cli.parameters import CHAIN, json_option, resolve
from layerstore_core.cli.session import Session
from layerstore_core.errors import LayerDoesNotExist, LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.base.digests import ChainID
    from layerstore_core.store.nodes import RemovedLayer
    from layerstore_core.store.store import LayerStore


class LayerInUse(LayerStoreError):
    """The layer cannot be removed: something stands on it or uses it."""


@click.command()
@click.argument("chain", type=CHAIN)
@json_option
@click.pass_obj
def rm(session: Session, chain: str) -> None:
    """Remove a layer, and print the chain IDs that are gone.

    Layers below it go too where nothing else holds them. A layer that another layer, a writable layer or another process uses stays as it is: that is an error.

    \b
    Example:
      layerstore rm 3f1c9a2b
    """

    def remove() -> list[RemovedLayer]:
        with session.open() as store:
            return _remove(store, resolve(store, chain))

    session.answer_for(
        remove, lambda removed: session.answer(removed_document(removed), lambda: [one.chain_id for one in removed])
    )


def removed_document(removed: list[RemovedLayer]) -> dict[str, Any]:
    """The layers that a removal took away; sizes in bytes."""
    return {
        "removed": [
            {
                "chain_id": str(layer.chain_id),
                "diff_id": str(layer.diff_id),
                "size": layer.size,
                "diff_size": layer.diff_size,
            }
            for layer in removed
        ]
    }


def _remove(store: LayerStore, chain: ChainID) -> list[RemovedLayer]:
    children, mounts = holders(store, chain)
    held = [f"layer {child}" for child in children] + [f"writable layer {name!r}" for name in mounts]
    held += store.context.image_db.holding(chain)
    if unreadable := store.unreadable():
        reasons = "".join(f"\n  {bad}" for bad in unreadable)
        raise LayerInUse(
            f"layer {chain} is not removed: something cannot be read that may need it; `layerstore check` says what to "
            f"do about it:{reasons}"
        )
    if held:
        raise LayerInUse(f"layer {chain} is not removed: it is held by {', '.join(held)}; remove what holds it first")
    was_pinned = chain in store.pins()
    layer = store.get(chain)
    try:
        store.unpin(chain)
    except BaseException:
        layer.close()
        raise
    try:
        removed = store.release(layer)
    except BaseException:
        _pin_again(store, chain, was_pinned=was_pinned)
        raise
    # Another process holds it, or has just built on it.
    if not removed and _pin_again(store, chain, was_pinned=was_pinned):
        raise LayerInUse(f"layer {chain} is not removed: another process uses it; try again when that has ended")
    return removed


def _pin_again(store: LayerStore, chain: ChainID, *, was_pinned: bool) -> bool:
    """Give a layer its pin back, which a removal that fails must not cost it; returns whether the layer is there."""
    try:
        with store.get(chain) as kept:
            if was_pinned:
                store.pin(kept)
    except LayerDoesNotExist:
        return False
    return True
