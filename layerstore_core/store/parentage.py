"""What a layer was made on: what its record says, held against what the driver knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerstore_core.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from layerstore_core.base.digests import ChainID
    from layerstore_core.driver.bound import BoundDriver
    from layerstore_core.errors import BadRecord
    from layerstore_core.store.context import StoreContext
    from layerstore_core.store.nodes import LayerNode, MountNode


def other_parent(context: StoreContext, layer_id: str, parent_id: str) -> str | None:
    """The parent that the driver knows a layer to have, if it is not the one in the records.

    Args:
        context: an open store.
        layer_id: the driver's ID of the layer.
        parent_id: that of its parent according to the records, `""` for none.

    Returns:
        The driver's ID of the other parent, `""` for none; `None` where nothing speaks against the records.
    """
    known = context.driver.parent_of(layer_id, parent_id)
    if known is None or known == parent_id:
        return None
    if parent_id and known and not known.endswith("-init") and _named(context, known) is None:
        return None  # no record says what that is: perhaps what the parent was before it was made anew
    return known


def require_parent(context: StoreContext, layer_id: str, parent_id: str, what: str) -> None:
    """Refuse to use a layer whose record and driver do not agree on what it stands on.

    Raises:
        IntegrityError: they do not.
    """
    known = other_parent(context, layer_id, parent_id)
    if known is not None:
        raise IntegrityError(
            f"{what}: {parent_in_words(context, parent_id)} according to its record, and {parent_in_words(context, known)} "
            f"according to the driver {context.driver.name}; run `layerstore check --repair`"
        )


def parent_in_words(context: StoreContext, layer_id: str) -> str:
    """Which parent a driver's ID stands for."""
    if not layer_id:
        return "it has no parent"
    chain = _named(context, layer_id)
    return f"its parent is {chain}" if chain else f"its parent is the driver's layer {layer_id}"


def _named(context: StoreContext, layer_id: str) -> ChainID | None:
    """The layer whose record names one of the driver's."""
    return next((chain for chain, layer in context.catalog.layers().items() if layer.record.cache_id == layer_id), None)


class KnownParents:
    """What the driver's writable layers stand on, whatever their records say: as long as one does, a layer is kept.

    Args:
        driver: the driver.
        mounts: the writable layers, as they are by now.
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
        #: What the driver has said, by the ID of a writable layer: that never changes.
        self._known: dict[str, str | None] = {}

    def references_to(self, chain: ChainID) -> list[str]:
        """The writable layers that stand on a layer without their records saying so."""
        node = self._layer(chain)
        if node is None:
            return []
        return [
            f"writable layer {name!r}, as the driver has it"
            for name, mount in self._mounts().items()
            if mount.parent is not node and self._parent_of(mount) == node.record.cache_id
        ]

    def unreadable(self) -> list[BadRecord]:
        """Nothing: what the driver does not tell, the records do."""
        return []

    def _parent_of(self, mount: MountNode) -> str | None:
        mount_id = mount.record.mount_id
        if mount_id not in self._known:
            parent = mount.parent.record.cache_id if mount.parent is not None else ""
            init_id = mount.record.init_id or f"{mount_id}-init"
            known = self._driver.parent_of(mount_id, mount.record.init_id or parent)
            self._known[mount_id] = self._driver.parent_of(init_id, parent) if known == init_id else known
        return self._known[mount_id]
