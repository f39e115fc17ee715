"""`layerstore rm`: remove a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from layerstore_core.cli.describe import users_of
from layerstore_core.cli.parameters import CHAIN, json_option, resolve
from layerstore_core.cli.session import Session
from layerstore_core.errors import LayerDoesNotExist, LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.base.digests import ChainID
    from layerstore_core.store.nodes import RemovedLayer
    from layerstore_core.store.store import LayerStore


class LayerInUse(LayerStoreError):
    """The layer cannot be removed: a child, a writable layer, an image or another process uses it."""


@click.command()
@click.argument("chain", type=CHAIN)
@json_option
@click.pass_obj
def rm(session: Session, chain: str) -> None:
    """Remove a layer, and print all removed chain IDs.

    Its pin is removed too. Each parent that nothing else refers to is removed with it. A layer that another layer,
    a writable layer, an image or another process uses is not removed, and the exit code is 1.

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
    """Return the removed layers as a JSON object; sizes are in bytes."""
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
    children, mounts = users_of(store, chain)
    users = [f"layer {child}" for child in children] + [f"writable layer {name!r}" for name in mounts]
    users += store.context.image_db.references_to(chain)
    if unreadable := store.unreadable():
        reasons = "".join(f"\n  {bad}" for bad in unreadable)
        raise LayerInUse(
            f"layer {chain} is not removed: records that may refer to it cannot be read; run 'layerstore check' to see "
            f"what to do:{reasons}"
        )
    if users:
        raise LayerInUse(f"layer {chain} is not removed: it is used by {', '.join(users)}; remove that first")
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
    # Another process has a reference to it, or has just registered a child.
    if not removed and _pin_again(store, chain, was_pinned=was_pinned):
        raise LayerInUse(
            f"layer {chain} is not removed: another process uses it; try again when that process has ended"
        )
    return removed


def _pin_again(store: LayerStore, chain: ChainID, *, was_pinned: bool) -> bool:
    """Restore a layer's pin after a failed removal; return whether the layer still exists."""
    try:
        with store.get(chain) as kept:
            if was_pinned:
                store.pin(kept)
    except LayerDoesNotExist:
        return False
    return True
