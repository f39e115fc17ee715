"""The entries of the catalog for layers and writable layers, and the protocol of what refers to layers on disk."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from layerstore_core.base.digests import ChainID, DiffID
from layerstore_core.errors import BadRecord
from layerstore_core.records.layer_record import LayerRecord, MountRecord


class ParentLayer(NamedTuple):
    """The parent of a new layer; it need not be committed yet.

    Attributes:
        chain_id: its name.
        cache_id: the driver's ID for it.
    """

    chain_id: ChainID
    cache_id: str


class LayerNode:
    """A read-only layer and the references to it, as far as this store knows them.

    Attributes:
        lock_key: the layer's key in `RootLocks`.
        depth: how many layers the chain has.
        chain_size: the sizes of all layers of the chain together, in bytes.
    """

    def __init__(self, record: LayerRecord, parent: LayerNode | None, lock_key: str) -> None:
        self.record: Final = record
        self.parent: Final = parent
        self.lock_key: Final = lock_key
        self.handles: set[object] = set()
        self.children: set[ChainID] = set()
        self.mounts: set[str] = set()
        # Records do not change, nor do a layer's ancestors: depth and size need not be counted again.
        self.depth: int = 1 if parent is None else parent.depth + 1
        self.chain_size: int = record.size + (0 if parent is None else parent.chain_size)

    def chain(self) -> Iterator[LayerNode]:
        """Yield the layer itself, its parent, and so on down to the base."""
        node: LayerNode | None = self
        while node is not None:
            yield node
            node = node.parent

    @property
    def as_parent(self) -> ParentLayer:
        """The layer as the parent of a new one."""
        return ParentLayer(self.record.chain_id, self.record.cache_id)


class MountNode:
    """A writable layer and the handles to it."""

    def __init__(self, record: MountRecord, parent: LayerNode | None) -> None:
        self.record = record
        self.parent = parent
        self.handles: set[object] = set()

    @property
    def driver_parent(self) -> str:
        """The driver's ID of the layer's parent: its init layer, else its parent layer, else `""`."""
        if self.record.init_id:
            return self.record.init_id
        return self.parent.record.cache_id if self.parent else ""

    @property
    def lock_key(self) -> str:
        """The writable layer's key in `RootLocks`."""
        return f"rw {self.record.mount_id}"


class RemovedLayer(NamedTuple):
    """A layer that a release has deleted.

    Attributes:
        chain_id: the layer's name in the store.
        diff_id: the digest of its tar.
        size: of the whole chain up to it, in bytes.
        diff_size: of the layer alone, in bytes.
    """

    chain_id: ChainID
    diff_id: DiffID
    size: int
    diff_size: int


class ReferenceSource(Protocol):
    """Records on disk that refer to layers: pins, images. The process that writes one has a handle to the layer."""

    def references_to(self, chain: ChainID, /) -> list[str]:
        """Return the references to the layer now, in words for a person; an empty list if there are none."""

    def all_references(self) -> Container[ChainID] | None:
        """Return all layers that it refers to now; `None` where `references_to` has to be asked for each.

        Raises:
            BadRecord, OSError: it cannot be read: `references_to` has to be asked for each.
        """

    def unreadable(self) -> list[BadRecord]:
        """Return what cannot be read now and may refer to any layer. As long as there is something, all layers stay."""


class ReferenceSources:
    """The sources of references to the layers of one root.

    Args:
        sources: the sources, in the order in which they are asked.
    """

    def __init__(self, sources: Sequence[ReferenceSource]) -> None:
        self._sources = tuple(sources)

    def add(self, source: ReferenceSource) -> None:
        """Add a source to those that are asked."""
        self._sources = (*self._sources, source)

    def references_to(self, chain: ChainID) -> list[str]:
        """Return the references of all sources to a layer, in words."""
        return [reference for source in self._sources for reference in source.references_to(chain)]

    def refer_to(self, chain: ChainID, besides: ReferenceSource | None = None) -> bool:
        """Return whether a source refers to a layer now, without the source `besides`."""
        return any(source.references_to(chain) for source in self._sources if source is not besides)

    def all_references(self, besides: ReferenceSource | None = None) -> Callable[[ChainID], bool]:
        """Read all references at once; return the same as `refer_to`, as of now, and quick for many layers."""
        found: list[Container[ChainID]] = []
        others: list[ReferenceSource] = []
        for source in self._sources:
            if source is besides:
                continue
            try:
                layers = source.all_references()
            except (BadRecord, OSError):
                layers = None
            if layers is None:
                others.append(source)
            else:
                found.append(layers)
        return lambda chain: (
            any(chain in layers for layers in found) or any(source.references_to(chain) for source in others)
        )

    def unreadable(self) -> list[BadRecord]:
        """Return what no source can read and may refer to any layer."""
        return [bad for source in self._sources for bad in source.unreadable()]


class Problem(NamedTuple):
    """A record on disk that could not be loaded.

    Attributes:
        path: the file or directory concerned.
        reason: what is wrong with it.
    """

    path: str
    reason: str


def problem_of(path: Path, error: Exception) -> Problem:
    """Return the problem of a record.

    Args:
        path: the record.
        error: the error with which loading it failed.
    """
    where = str(getattr(error, "path", None) or getattr(error, "filename", None) or path)
    reason = str(getattr(error, "reason", error))
    if not Path(where).is_relative_to(path):
        # Otherwise every child of a damaged layer would repeat the same message.
        reason += f"; {path} depends on it"
    return Problem(where, reason)
