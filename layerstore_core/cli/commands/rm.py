"""`layerstore rm`: remove layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerstore_core.cli.describe import removed_document, rw_documents
from layerstore_core.cli.parameters import CHAIN, json_option, resolve
from layerstore_core.cli.session import Session
from layerstore_core.errors import LayerDoesNotExist, LayerStoreError, keeping_done

if TYPE_CHECKING:
    from layerstore_core.base.digests import ChainID
    from layerstore_core.store.nodes import RemovedLayer
    from layerstore_core.store.store import LayerStore


class LayerInUse(LayerStoreError):
    """The layer cannot be removed: a child, a writable layer, an image, a snapshot or another process uses it."""


@click.command()
@click.argument("chain", type=CHAIN, nargs=-1, required=True)
@json_option
@click.pass_obj
def rm(session: Session, chain: tuple[str, ...]) -> None:
    """Remove layers, and print all removed chain IDs.

    Their pins are removed too. Each parent that nothing else refers to is removed with a layer. A layer that another
    layer, a writable layer, an image, a snapshot of an engine or another process uses is not removed, and the exit code
    is 1. Of several layers, children are removed before their parents, up to the first that cannot be removed.

    \b
    Example:
      layerstore rm 3f1c9a2b
    """

    def remove() -> list[RemovedLayer]:
        with session.open() as store:
            chains = list(dict.fromkeys(resolve(store, word) for word in chain))
            users = _Users(store)
            removed: list[RemovedLayer] = []
            with keeping_done(removed, removed.extend):
                for one in sorted(chains, key=lambda one: -users.depths.get(one, 0)):
                    if one not in users.gone:  # with a child of it
                        removed += _remove(store, one, users)
            return removed

    session.answer_for(
        remove, lambda removed: session.answer(removed_document(removed), lambda: [one.chain_id for one in removed])
    )


class _Users:
    """The children of each layer, and the writable layers on it, without those that were removed meanwhile.

    What another process adds is not seen here; `release` sees it.

    Attributes:
        depths: how many layers the chain of each layer has.
        gone: the layers that were removed.
    """

    def __init__(self, store: LayerStore) -> None:
        layers = store.layers()
        self.depths = {chain: layer.depth for chain, layer in layers.items()}
        self._children: dict[str, list[str]] = {}
        for child, layer in sorted(layers.items()):
            if layer.parent_id is not None:
                self._children.setdefault(layer.parent_id, []).append(child)
        self._mounts: dict[str, list[str]] = {}
        for document in rw_documents(store):
            self._mounts.setdefault(document["parent"] or "", []).append(document["name"])
        self.gone: set[str] = set()

    def of(self, chain: ChainID) -> list[str]:
        """Return what uses a layer, in words."""
        children = [child for child in self._children.get(chain, ()) if child not in self.gone]
        return [f"layer {child}" for child in children] + [
            f"writable layer {name!r}" for name in self._mounts.get(chain, ())
        ]

    def remove(self, removed: list[RemovedLayer]) -> None:
        """Note that layers were removed."""
        self.gone.update(layer.chain_id for layer in removed)


def _remove(store: LayerStore, chain: ChainID, known: _Users) -> list[RemovedLayer]:
    from layerstore_core.store.mounts.read_only import mounts_of

    context = store.context
    snapshots = context.snapshots.references_to(chain)
    users = [
        *known.of(chain),
        *context.image_db.references_to(chain),
        *mounts_of(context).references_to(chain),
        *snapshots,
    ]
    if unreadable := store.unreadable():
        reasons = "".join(f"\n  {bad}" for bad in unreadable)
        raise LayerInUse(
            f"layer {chain} is not removed: records that may refer to it cannot be read; run 'layerstore check' to see "
            f"what to do:{reasons}"
        )
    if users:
        how = " (a snapshot is removed by its engine)" if snapshots else ""
        raise LayerInUse(f"layer {chain} is not removed: it is used by {', '.join(users)}; remove that first{how}")
    was_pinned = chain in store.context.pins
    layer = store.get(chain)
    try:
        store.unpin(chain)
    except BaseException:
        layer.close()
        raise
    try:
        removed = store.release(layer)
        known.remove(removed)
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
