"""The parent of a layer: what its record says, compared with what the driver knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerstore_core.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from layerstore_core.base.digests import ChainID
    from layerstore_core.driver.bound import BoundDriver
    from layerstore_core.errors import BadRecord
    from layerstore_core.store.context import StoreContext
    from layerstore_core.store.nodes import LayerNode, MountNode


def other_parent(context: StoreContext, layer_id: str, parent_id: str) -> str | None:
    """Return the parent that the driver knows a layer to have, if it is not the one in the records.

    Args:
        context: an open store.
        layer_id: the driver's ID of the layer.
        parent_id: that of its parent according to the records, `""` for none.

    Returns:
        The driver's ID of the other parent, `""` for none; `None` where nothing contradicts the records.
    """
    known = context.driver.parent_of(layer_id, parent_id)
    if known is None or known == parent_id:
        return None
    if parent_id and known and not known.endswith("-init") and _named(context, known) is None:
        return None  # no record names it: perhaps it is the parent's former layer, before the parent was rebuilt
    return known


def require_parent(context: StoreContext, layer_id: str, parent_id: str, what: str) -> None:
    """Refuse to use a layer whose record and driver name different parents.

    Raises:
        IntegrityError: they do.
    """
    known = other_parent(context, layer_id, parent_id)
    if known is not None:
        raise IntegrityError(
            f"{what}: {parent_in_words(context, parent_id)} according to its record, and "
            f"{parent_in_words(context, known)} according to the driver {context.driver.name}; "
            "run `layerstore check --repair`"
        )


def parent_in_words(context: StoreContext, layer_id: str) -> str:
    """Return, in words, which parent a driver's ID means."""
    if not layer_id:
        return "it has no parent"
    chain = _named(context, layer_id)
    return f"its parent is {chain}" if chain else f"its parent is the driver's layer {layer_id}"


def _named(context: StoreContext, layer_id: str) -> ChainID | None:
    """Return the layer whose record names a driver's ID."""
    return next((chain for chain, layer in context.catalog.layers().items() if layer.record.cache_id == layer_id), None)


class KnownParents:
    """The parents of the driver's writable layers, whatever their records say. Such a parent is kept.

    Args:
        driver: the driver.
        mounts: returns the writable layers as they are now.
        layer: finds a layer.
    """

    def __init__(
        self,
        driver: BoundDriver,
        mounts: Callable[[], Mapping[str, MountNode]],
        layer: Callable[[ChainID], LayerNode | None],
    ) -> None:
        self._driver = driver
        self._mounts = mounts
        self._layer = layer
        #: The driver's answers, by the ID of a writable layer: they never change.
        self._known: dict[str, str | None] = {}

    def references_to(self, chain: ChainID) -> list[str]:
        """Return the writable layers whose parent a layer is without their records saying so."""
        node = self._layer(chain)
        if node is None:
            return []
        return [
            f"writable layer {name!r}, as the driver has it"
            for name, mount in self._mounts().items()
            if mount.record.parent != chain and self._parent_of(mount) == node.record.cache_id
        ]

    def all_references(self) -> Collection[ChainID] | None:
        """Return no layer if there are no writable layers; otherwise `None`; see `ReferenceSource`."""
        return None if self._mounts() else ()

    def unreadable(self) -> list[BadRecord]:
        """Return nothing: where the driver does not know a parent, the records count."""
        return []

    def _parent_of(self, mount: MountNode) -> str | None:
        mount_id = mount.record.mount_id
        if mount_id not in self._known:
            parent = mount.parent.record.cache_id if mount.parent is not None else ""
            init_id = mount.record.init_id or f"{mount_id}-init"
            known = self._driver.parent_of(mount_id, mount.record.init_id or parent)
            self._known[mount_id] = self._driver.parent_of(init_id, parent) if known == init_id else known
        return self._known[mount_id]
