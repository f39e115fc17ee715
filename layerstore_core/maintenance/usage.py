"""How much the images, layers and writable layers of a store take, and how much of that could be freed.

Sizes are the bytes in files as they were recorded when a layer was registered: each layer counts what it adds to its
parent, once. They are no blocks on disk: a file system rounds up and compresses, and the driver vfs copies all of a
parent's files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from layerstore_core.base.digests import ChainID, ImageID
from layerstore_core.base.times import parse_rfc3339
from layerstore_core.errors import BadRecord, LayerStoreError
from layerstore_core.images.keep.groups import members_of_names, names_of_images
from layerstore_core.images.remote.receive.leftovers import find_leftovers
from layerstore_core.maintenance.kept import KeptFiles
from layerstore_core.records.pins import Pins
from layerstore_core.store.context import StoreContext
from layerstore_core.store.nodes import LayerNode, MountNode
from layerstore_core.store.store import LayerStore

if TYPE_CHECKING:
    from layerstore_core.records.snapshots.rows import SnapshotRow


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """An image.

    Attributes:
        image_id: its ID.
        names: its names, sorted.
        size: the bytes of all its layers; layers that are missing do not count.
        shared: those of the layers that other images have, too.
        own: those of the layers that no other image has.
        kept: the bytes of the manifests and other documents that are kept for it, and of its layers as they came
            compressed.
        rw_layers: the writable layers on it, by name.
        in_use: whether a writable layer, a mount, a process, an engine's snapshot or a pin uses it.
        last_used: when it was last used, in seconds since 1970.
    """

    image_id: ImageID
    names: tuple[str, ...]
    size: int
    shared: int
    own: int
    kept: int
    rw_layers: tuple[str, ...]
    in_use: bool
    last_used: float


@dataclass(frozen=True, slots=True)
class LayerUsage:
    """A layer.

    Attributes:
        chain_id: its name.
        diff_size: its own bytes.
        images: how many images have it.
        in_use: whether anything refers to it: if not, `gc` removes it.
    """

    chain_id: ChainID
    diff_size: int
    images: int
    in_use: bool


@dataclass(frozen=True, slots=True)
class WritableUsage:
    """A writable layer.

    Attributes:
        name: its name.
        parent: its parent; `None` for none.
        size: the bytes that it adds to its parent; `None` if they cannot be counted.
        in_use: whether it is mounted, or a process has a handle to it.
    """

    name: str
    parent: ChainID | None
    size: int | None
    in_use: bool


@dataclass(frozen=True, slots=True)
class SnapshotSize:
    """A snapshot of an engine.

    Attributes:
        key: its key.
        kind: `"active"`, `"view"` or `"committed"`.
        parent: the key of its parent, `""` for none.
        chain_id: the layer of the store that it is; `None` if it has a layer of its own.
        size: the bytes of its own files; 0 for a layer of the store, which is counted there; `None` if they cannot be
            counted.
    """

    key: str
    kind: str
    parent: str
    chain_id: ChainID | None
    size: int | None


@dataclass(frozen=True, slots=True)
class Total:
    """The sum for one kind of objects.

    Attributes:
        kind: the kind. Documents are manifests, indexes and artifacts that came with images; compressed layers are
            those that the setting `keep_blobs` keeps; downloads are what pulls have received of layers; snapshots are
            what an engine keeps in the store.
        count: how many there are.
        in_use: how many of them are in use; a document or a compressed layer is if one of its images is, or if its
            layer has another use, and a download if a process goes on with it. The engine needs all snapshots.
        size: their bytes; a layer of several images counts once. Those of images are the bytes of their layers.
        reclaimable: the bytes that are freed if all objects that are not in use are removed.
    """

    kind: Literal["images", "layers", "writable layers", "documents", "compressed layers", "downloads", "snapshots"]
    count: int
    in_use: int
    size: int
    reclaimable: int


@dataclass(frozen=True, slots=True)
class StoreUsage:
    """What a store contains.

    Attributes:
        images: the images that can be read, the one that was used last first.
        layers: the layers that can be loaded, by chain ID.
        rw_layers: the writable layers, by name.
        snapshots: the snapshots of an engine, parents before their children.
        totals: the sums for the first three, and for what there is besides: documents, compressed layers, downloads and
            snapshots.
    """

    images: tuple[ImageUsage, ...]
    layers: tuple[LayerUsage, ...]
    rw_layers: tuple[WritableUsage, ...]
    snapshots: tuple[SnapshotSize, ...]
    totals: tuple[Total, Total, Total, Total, Total, Total, Total]


class Census:
    """The layers and images of a store at one moment, and what would be free if images were removed.

    Each step costs the layers that it looks at, so that a census of all is linear in layers and images.

    Args:
        context: an open store.

    Attributes:
        nodes: the layers that can be loaded.
        chains: the layers of each image that can be read, the base first; also those that are missing.
        members: the images of each name: several, where it stands for several platforms.
        names: the names of each image, sorted.
        certain: whether everything that may refer to a layer can be read. If not, no layer is free.
        free: the layers to which nothing refers, as far as images have been removed from the census.
        layers_size: the bytes of the other layers.
        kept: the documents and the compressed layers.
        kept_size: the bytes of those that are not free.
    """

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        catalog, images = context.catalog, context.image_db
        with catalog.lock:
            self.nodes: Final = catalog.layers()
            self.certain: Final = not catalog.unreadable()
            self._referenced: Final = catalog.referenced(self.nodes.values(), besides=images)
            self._pins: Final = set(context.pins) if self.certain else set[ChainID]()
            self._of_snapshots: Final = set(context.snapshots.all_references()) if self.certain else set[ChainID]()
            self._children = {chain: len(node.children) for chain, node in self.nodes.items()}
        self.chains: Final[dict[ImageID, tuple[ChainID, ...]]] = {}
        self.members: Final[dict[str, tuple[ImageID, ...]]] = {}
        self.names: Final[dict[ImageID, tuple[str, ...]]] = {}
        self._images_of: dict[ChainID, int] = {}
        self._read_images()
        self.free: Final[set[ChainID]] = set()
        self.layers_size = sum(node.record.size for node in self.nodes.values())
        self.kept: Final = KeptFiles(context, self.nodes.values(), certain=self.certain)
        self.kept_size = self.kept.needed_bytes
        for chain in self.nodes:
            self._free(chain)

    @property
    def size(self) -> int:
        """The bytes of all that is not free."""
        return self.layers_size + self.kept_size

    def top(self, image: ImageID) -> LayerNode | None:
        """Return the topmost layer of an image; `None` if it has none, or if that cannot be loaded."""
        chain = self.chains[image]
        return self.nodes.get(chain[-1]) if chain else None

    def images_of(self, chain: ChainID) -> int:
        """Return how many images have a layer, without those that were removed from the census."""
        return self._images_of.get(chain, 0)

    def size_of(self, chains: Iterable[ChainID]) -> int:
        """Return the bytes of layers, without those that are missing."""
        return sum(self.nodes[chain].record.size for chain in chains if chain in self.nodes)

    def is_in_use(self, image: ImageID) -> bool:
        """Return whether a writable layer, a mount, a process, a snapshot or a pin uses an image's topmost layer."""
        top = self.top(image)
        return top is not None and (
            top.record.chain_id in self._of_snapshots or is_in_use(self._context, top, pins=self._pins)
        )

    def last_used(self, image: ImageID) -> float:
        """Return when an image was last used, in seconds since 1970: at the latest when it was recorded or named."""
        return self._times[image]

    @cached_property
    def _times(self) -> dict[ImageID, float]:
        """The times at which all images were last used."""
        images, found = self._context.image_db, dict[ImageID, float]()
        used = self._context.last_used.all()
        with images.open_configs() as configs, images.open_metadata() as metadata:
            for image, chain in self.chains.items():
                named = parse_rfc3339(images.last_updated(image, metadata), lenient=True)
                known = used.get(chain[-1], 0.0) if chain else 0.0
                found[image] = max(images.recorded_at(image, configs), 0.0 if named is None else named / 1e9, known)
        return found

    def remove(self, image: ImageID) -> None:
        """Remove an image from the census, and note which layers are free without it."""
        self.kept_size -= self.kept.remove_image(image)
        for chain in reversed(self.chains[image]):
            self._images_of[chain] -= 1
            self._free(chain)

    def _free(self, chain: ChainID) -> None:
        """Note that a layer is free, if nothing refers to it, then its parent, and so on."""
        node = self.nodes.get(chain)
        while node is not None:
            chain = node.record.chain_id
            users = self._children[chain] or self.images_of(chain) or chain in self._referenced or not self.certain
            if users or chain in self.free:
                return
            self.free.add(chain)
            self.layers_size -= node.record.size
            self.kept_size -= self.kept.remove_layer(node.record.diff_id)
            node = node.parent
            if node is not None:
                self._children[node.record.chain_id] -= 1

    def _read_images(self) -> None:
        images = self._context.image_db
        try:
            self.members.update(members_of_names(images, self._context.kept, images.names()))
        except BadRecord:  # `certain` is false
            pass
        with images.open_configs() as configs:
            for image in images.image_ids():
                try:
                    layer = images.top_of(image, configs)
                except (BadRecord, OSError):  # damaged, or removed by another process meanwhile
                    continue
                chain: list[ChainID] = []
                while layer is not None:
                    chain.append(layer.chain_id)
                    self._images_of[layer.chain_id] = self._images_of.get(layer.chain_id, 0) + 1
                    layer = layer.parent
                self.chains[image] = tuple(reversed(chain))
        self.names.update(names_of_images(self.members))


def is_in_use(context: StoreContext, node: LayerNode, *, pins: Pins | Collection[ChainID]) -> bool:
    """Return whether a writable layer, a mount, a process or a pin, one of `pins`, refers to a layer itself, now."""
    return bool(
        node.mounts
        or node.handles
        or context.locks.is_referenced(node.lock_key)
        or node.record.chain_id in pins
        or context.driver.is_mounted(node.record.cache_id)
    )


def disk_usage(store: LayerStore) -> StoreUsage:
    """Return how much the images, layers and writable layers take, and how much could be freed.

    Sizes are recorded bytes in files; those of writable layers are counted now, which takes as long as comparing them
    with their parents.

    Args:
        store: an open store.
    """
    context = store.context
    census = Census(context)
    layers = tuple(
        LayerUsage(chain, node.record.size, census.images_of(chain), chain not in census.free)
        for chain, node in sorted(census.nodes.items())
    )
    unreferenced = census.size_of(census.free)
    of_images = census.size_of({chain for chains in census.chains.values() for chain in chains})
    rw_layers = tuple(_writable(context, node) for _, node in sorted(context.catalog.mounts().items()))
    snapshots = tuple(_snapshot(context, row) for row in context.snapshots.ready())
    images = sorted((_image(census, image) for image in census.chains), key=lambda one: (-one.last_used, one.image_id))
    before = census.layers_size
    for image in images:
        if not image.in_use:
            census.remove(image.image_id)
    kept = census.kept
    totals = (
        Total("images", len(images), _used(images), of_images, before - census.layers_size),
        Total("layers", len(layers), _used(layers), sum(layer.diff_size for layer in layers), unreferenced),
        Total(
            "writable layers",
            len(rw_layers),
            _used(rw_layers),
            sum(rw.size or 0 for rw in rw_layers),
            sum(rw.size or 0 for rw in rw_layers if not rw.in_use),
        ),
        _kept("documents", list(kept.documents.values()), kept.needed_documents),
        _kept("compressed layers", [size for sizes in kept.blobs.values() for size in sizes], kept.needed_blobs),
        _downloads(context),
        _snapshots(snapshots),
    )
    return StoreUsage(tuple(images), layers, rw_layers, snapshots, totals)


def _used(objects: Collection[ImageUsage] | Collection[LayerUsage] | Collection[WritableUsage]) -> int:
    return sum(one.in_use for one in objects)


def _kept(kind: Literal["documents", "compressed layers"], sizes: list[int], needed: list[int]) -> Total:
    return Total(kind, len(sizes), len(needed), sum(sizes), sum(sizes) - sum(needed))


def _downloads(context: StoreContext) -> Total:
    found = find_leftovers(context.root)
    free = [one.bytes for one in found if not one.in_use]
    return Total("downloads", len(found), len(found) - len(free), sum(one.bytes for one in found), sum(free))


def _snapshots(snapshots: Collection[SnapshotSize]) -> Total:
    return Total("snapshots", len(snapshots), len(snapshots), sum(one.size or 0 for one in snapshots), 0)


def _snapshot(context: StoreContext, row: SnapshotRow) -> SnapshotSize:
    from layerstore_core.snapshots.layers import parent_layer_id  # lazy: few stores have snapshots

    size = row.size
    if row.chain_id is not None or row.kind == "view":
        size = 0
    elif size is None:
        try:
            size = context.driver.diff_size(row.driver_id, parent_layer_id(context, row))
        except (LayerStoreError, OSError):  # damaged, or removed by the engine meanwhile
            size = None
    return SnapshotSize(row.key, row.kind, row.parent, row.chain_id, size)


def _image(census: Census, image: ImageID) -> ImageUsage:
    chains, top = census.chains[image], census.top(image)
    size = census.size_of(chains)
    shared = census.size_of(chain for chain in chains if census.images_of(chain) > 1)
    return ImageUsage(
        image,
        census.names.get(image, ()),
        size,
        shared,
        size - shared,
        census.kept.size_of(image, (census.nodes[chain].record.diff_id for chain in chains if chain in census.nodes)),
        tuple(sorted(top.mounts)) if top is not None else (),
        census.is_in_use(image),
        census.last_used(image),
    )


def _writable(context: StoreContext, node: MountNode) -> WritableUsage:
    record = node.record
    try:
        size: int | None = context.driver.diff_size(record.mount_id, node.driver_parent)
    except (LayerStoreError, OSError):  # damaged, or removed by another process meanwhile
        size = None
    in_use = bool(
        node.handles or context.locks.is_referenced(node.lock_key) or context.driver.is_mounted(record.mount_id)
    )
    return WritableUsage(record.name, record.parent, size, in_use)
