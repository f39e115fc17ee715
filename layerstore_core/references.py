"""Who holds what: the layers and writable layers of one open store, and all references between them.

A layer is held by the handles that a program has to it, by the layers and writable layers on top of
it, and by a pin. It may go when nothing holds it. All of this, and the locks around it, are in this
one module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock

from layerstore_core.digests import ChainID
from layerstore_core.metadata import LayerRecord, MountRecord


@dataclass(eq=False)
class LayerNode:
    """A read-only layer and its holders."""

    record: LayerRecord
    parent: LayerNode | None
    handles: set[object] = field(default_factory=set)
    children: set[ChainID] = field(default_factory=set)
    mounts: set[str] = field(default_factory=set)
    pinned: bool = False

    @property
    def held(self) -> bool:
        """Whether anything at all holds the layer."""
        return bool(self.handles or self.children or self.mounts or self.pinned)

    def holders(self) -> list[str]:
        """What holds the layer, in words."""
        holders = [f"layer {child}" for child in sorted(self.children)]
        holders += [f"writable layer {name!r}" for name in sorted(self.mounts)]
        if self.pinned:
            holders.append("its pin")
        if self.handles:
            holders.append(f"{len(self.handles)} open handle(s)")
        return holders

    def chain(self) -> Iterator[LayerNode]:
        """The layer itself, its parent, and so on down to the base."""
        node: LayerNode | None = self
        while node is not None:
            yield node
            node = node.parent

    @property
    def depth(self) -> int:
        """How many layers the chain has."""
        return sum(1 for _ in self.chain())

    @property
    def chain_size(self) -> int:
        """The sizes of all layers of the chain together, in bytes."""
        return sum(node.record.size for node in self.chain())


@dataclass(eq=False)
class MountNode:
    """A writable layer and the handles to it."""

    record: MountRecord
    parent: LayerNode | None
    handles: set[object] = field(default_factory=set)

    @property
    def driver_parent(self) -> str:
        """The driver's ID of what the layer stands on: its init layer, else its parent, else `""`."""
        if self.record.init_id:
            return self.record.init_id
        return self.parent.record.cache_id if self.parent else ""


class References:
    """The layers and writable layers that are known, by their names.

    Attributes:
        lock: guards both maps and all holders; it is held for bookkeeping and deletion, and never
            while a layer is unpacked.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.layers: dict[ChainID, LayerNode] = {}
        self.mounts: dict[str, MountNode] = {}
        self._name_locks: dict[str, tuple[Lock, int]] = {}

    def add_layer(self, record: LayerRecord, parent: LayerNode | None, *, pinned: bool = False) -> LayerNode:
        """Make a layer known; it holds its parent from now on."""
        node = LayerNode(record, parent, pinned=pinned)
        with self.lock:
            self.layers[record.chain_id] = node
            if parent is not None:
                parent.children.add(record.chain_id)
        return node

    def drop_layer(self, node: LayerNode) -> None:
        """Forget a layer, which nothing holds any more; it lets go of its parent."""
        with self.lock:
            del self.layers[node.record.chain_id]
            if node.parent is not None:
                node.parent.children.discard(node.record.chain_id)

    def add_mount(self, record: MountRecord, parent: LayerNode | None) -> MountNode:
        """Make a writable layer known; it holds its parent from now on."""
        node = MountNode(record, parent)
        with self.lock:
            self.mounts[record.name] = node
            if parent is not None:
                parent.mounts.add(record.name)
        return node

    def drop_mount(self, node: MountNode) -> None:
        """Forget a writable layer; it lets go of its parent."""
        with self.lock:
            del self.mounts[node.record.name]
            if node.parent is not None:
                node.parent.mounts.discard(node.record.name)

    @contextmanager
    def locked_name(self, name: str) -> Iterator[None]:
        """One operation at a time on a writable layer of this name."""
        with self.lock:
            lock, users = self._name_locks.get(name, (Lock(), 0))
            self._name_locks[name] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self.lock:
                lock, users = self._name_locks[name]
                if users == 1:
                    del self._name_locks[name]
                else:
                    self._name_locks[name] = lock, users - 1
