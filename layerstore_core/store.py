"""The layer store: layers and writable layers over one driver, under one root.

Operations and their semantics follow Docker's layer store (moby, `daemon/internal/layer`), as do the
formats on disk. Where that store is weak this one differs, and the tests say so.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from layerstore_core.archive.scanner import TarScanner
from layerstore_core.archive.source import LayerSource
from layerstore_core.archive.stream import LayerStream
from layerstore_core.config import StoreConfig, load_config
from layerstore_core.digests import ChainID
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.driver.open import open_driver
from layerstore_core.durability import flush_file_systems
from layerstore_core.errors import (
    LayerDoesNotExist,
    LayerNotRetained,
    LayerStoreError,
    MaxDepthExceeded,
    MountDoesNotExist,
    MountNameConflict,
)
from layerstore_core.exporting import tar_stream
from layerstore_core.layers import Layer, RemovedLayer, RWLayer
from layerstore_core.log import logger
from layerstore_core.metadata import LayerDB, MountRecord, Pins, check_mount_name
from layerstore_core.references import LayerNode, MountNode, References
from layerstore_core.registering import Registration
from layerstore_core.restoring import Problem, restore, restore_layer

if TYPE_CHECKING:
    from types import TracebackType

Progress = Callable[[int, int], None]


class LayerStore:
    """An open store; made by `LayerStore.open`, and to be closed, or used in a `with` statement.

    All methods may be called from several threads.

    Attributes:
        root: the store's directory.
        config: the settings in force, and where each came from.
        driver: the graph driver, behind the contract.
        load_problems: layers and writable layers that could not be loaded, each with file and reason.
    """

    def __init__(self, config: StoreConfig, driver: BoundDriver) -> None:
        self.config = config
        self.root: Path = config.root
        self.driver = driver
        self.db: Final = LayerDB(self.root / "image" / driver.name / "layerdb", durability=config.durability)
        self._pins = Pins(self.root / "layerstore" / "pins")
        self._references = References()
        self._closed = False
        self.load_problems: list[Problem] = restore(self.db, self._pins, self._references)
        for problem in self.load_problems:
            logger.warning("{}: not loaded: {}", problem.path, problem.reason)

    @classmethod
    def open(cls, config: StoreConfig | None = None, /, **overrides: Any) -> LayerStore:
        """Open the store, and make it where there is none.

        Args:
            config: settings, all of them; `None`: from arguments, environment, files and defaults.
            overrides: settings by name (`root`, `driver`, …), which go before all others.

        Raises:
            ConfigError: a setting cannot be used.
            DriverNotFound: the driver is not installed.
            DriverNotSupported: the driver cannot work here.
            AmbiguousDriver: the root has the state of several drivers, and none was named.
        """
        if config is None:
            config = load_config(**overrides)
        elif overrides:
            config = config.with_overrides(**overrides)
        return cls(config, open_driver(config))

    def close(self) -> None:
        """Give all handles back. Mounts of writable layers stay; nothing is deleted."""
        if self._closed:
            return
        self._closed = True
        with self._references.lock:
            handles: list[object] = []
            for node in (*self._references.layers.values(), *self._references.mounts.values()):
                handles += node.handles
                node.handles.clear()
        for handle in handles:
            handle._released = True  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Layers

    def register(
        self,
        stream: BinaryIO | str | os.PathLike[str],
        parent: str = "",
        *,
        descriptor: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Layer:
        """Take in a layer.

        Args:
            stream: its tar, as a path or a binary file object; gzip, zstd, xz and bzip2 are recognised.
            parent: the chain ID of the layer below, `""` for a base layer.
            descriptor: an OCI descriptor to keep with the layer.
            progress: called now and then with the bytes read and the entries seen so far.

        Returns:
            A handle to the layer: the new one, or the one that was there, if the chain was known.

        Raises:
            InvalidLayer: the input is damaged, or leaves its root; the store is as it was.
            LayerDoesNotExist: there is no such parent.
            MaxDepthExceeded: the chain is as long as it may be.
            OSError: the system refuses; the store is as it was.
        """
        with ExitStack() as stack:
            parent_node = None
            if parent:
                below = stack.enter_context(self.get(parent))
                parent_node = below._live
                limit = self.max_depth
                if parent_node.depth >= limit:
                    raise MaxDepthExceeded(
                        f"layer {parent} is {parent_node.depth} layers deep; this store allows {limit} "
                        "(setting max_depth, and what the driver can hold)"
                    )
            source = stack.enter_context(
                LayerSource(
                    stream,
                    spool_dir=self.scratch_directory(),
                    max_size=self.config.max_layer_size,
                )
            )
            registration = stack.enter_context(Registration(self.db, self.driver, parent_node))
            registration.apply(source, progress)
            record = registration.write_record(descriptor)
            if self.config.durability == "full":
                flush_file_systems(self.root, self.driver.home)
            with self._references.lock:
                existing = self._find(record.chain_id)
                if existing is None:
                    try:
                        registration.commit(record)
                    except FileExistsError:
                        existing = self._find(record.chain_id)  # another process was faster
                        if existing is None:
                            raise
                    else:
                        existing = self._references.add_layer(record, parent_node)
                return self._handle(existing)

    def get(self, chain_id: str) -> Layer:
        """A handle to a layer: one reference.

        Raises:
            LayerDoesNotExist: there is no such layer.
        """
        self._check_open()
        with self._references.lock:
            node = self._find(_parse_chain_id(chain_id))
            if node is None:
                raise LayerDoesNotExist(f"there is no layer {chain_id} in {self.root}; `layerstore ls` lists those there are")
            return self._handle(node)

    def layers(self) -> dict[ChainID, Layer]:
        """Views of all layers, by chain ID. They hold nothing, and cannot be released."""
        self._check_open()
        with self._references.lock:
            return {name: Layer(self, node, holds=False) for name, node in self._references.layers.items()}

    def release(self, layer: Layer) -> list[RemovedLayer]:
        """Give a handle back, and delete the layer, and its parents in turn, where nothing else holds them.

        Returns:
            What was deleted, the layer first.

        Raises:
            LayerNotRetained: the handle was released before, or is a view.
            OSError: the deletion failed; what is left is found by `cleanup`.
        """
        with self._references.lock:
            self._let_go(layer)
            return self._delete_unheld(layer._node)

    def pin(self, layer: Layer) -> None:
        """Keep a layer when no process holds it. A second pin does nothing."""
        node = layer._live
        with self._references.lock:
            self._pins.add(node.record.chain_id)
            node.pinned = True

    def unpin(self, chain_id: str) -> None:
        """Take the pin of a layer away; the layer stays until it is released or collected.

        Raises:
            LayerDoesNotExist: there is neither a pin nor a layer of this name.
        """
        name = _parse_chain_id(chain_id)
        with self._references.lock:
            node = self._find(name)
            if node is None and name not in self._pins:
                raise LayerDoesNotExist(f"there is no layer {chain_id} in {self.root}, and no pin of it")
            self._pins.remove(name)
            if node is not None:
                node.pinned = False

    def pins(self) -> set[ChainID]:
        """The chain IDs that are pinned."""
        return set(self._pins)

    # Writable layers

    def create_rw_layer(
        self,
        name: str,
        parent: str = "",
        *,
        mount_label: str = "",
        storage_opt: Mapping[str, str] | None = None,
        init: Callable[[str], None] | None = None,
    ) -> RWLayer:
        """Make a writable layer.

        Args:
            name: what to call it: 1 to 255 bytes, no slash, not `.` or `..`.
            parent: the chain ID of the layer below, `""` for none.
            mount_label: an SELinux label.
            storage_opt: the driver's options for this layer, such as `size`.
            init: called once with the path of a layer between parent and writable layer; what it
                writes there is not part of the writable layer's changes.

        Raises:
            MountNameConflict: the name is taken.
            LayerDoesNotExist: there is no such parent.
            InvalidMountName: the name cannot be used.
        """
        self._check_open()
        check_mount_name(name)
        options = dict(storage_opt or {})
        with self._references.locked_name(name), ExitStack() as held, ExitStack() as undo:
            if self._find_mount(name) is not None:
                raise MountNameConflict(f"a writable layer {name!r} exists already; choose another name or remove it")
            parent_node = held.enter_context(self.get(parent))._live if parent else None
            mount_id = secrets.token_hex(32)
            below = parent_node.record.cache_id if parent_node else ""
            init_id = None
            if init is not None:
                init_id = f"{mount_id}-init"
                self.driver.create_read_write(init_id, below, mount_label, options)
                undo.callback(self._undo_create, init_id)
                with self.driver.mounted(init_id) as path:
                    init(path)
                below = init_id
            self.driver.create_read_write(mount_id, below, mount_label, options)
            undo.callback(self._undo_create, mount_id)
            record = MountRecord(name, mount_id, init_id, parent_node.record.chain_id if parent_node else None)
            self.db.save_mount(record)
            node = self._references.add_mount(record, parent_node)
            handle = self._rw_handle(node)
            undo.pop_all()
            return handle

    def get_rw_layer(self, name: str) -> RWLayer:
        """A handle to a writable layer: one reference.

        Raises:
            MountDoesNotExist: there is none of this name.
        """
        self._check_open()
        with self._references.lock:
            return self._rw_handle(self._mount(name))

    def rw_layers(self) -> list[str]:
        """The names of all writable layers, sorted."""
        with self._references.lock:
            return sorted(self._references.mounts)

    def mount_id(self, name: str) -> str:
        """The driver's ID of a writable layer.

        Raises:
            MountDoesNotExist: there is none of this name.
        """
        with self._references.lock:
            return self._mount(name).record.mount_id

    def release_rw_layer(self, rw: RWLayer) -> list[RemovedLayer]:
        """Give a handle back; with the last one the writable layer goes, and with it what only it held.

        Returns:
            The read-only layers that were deleted.

        Raises:
            LayerNotRetained: the handle was released before.
            OSError: the driver could not delete it; the handle is good again, for another try.
        """
        with self._references.locked_name(rw.name):
            node = rw._live
            with self._references.lock:
                self._let_go_rw(rw)
                if node.handles:
                    return []
            try:
                self.driver.remove(node.record.mount_id)
                if node.record.init_id:
                    self.driver.remove(node.record.init_id)
                self.db.remove_mount(node.record.name)
            except BaseException:
                with self._references.lock:
                    rw._released = False
                    node.handles.add(rw)
                raise
            with self._references.lock:
                self._references.drop_mount(node)
                return self._delete_unheld(node.parent) if node.parent else []

    # The store itself

    @property
    def driver_name(self) -> str:
        """The driver's name, as it stands on disk."""
        return self.driver.name

    @property
    def max_depth(self) -> int:
        """How many layers a chain may have: the setting, or what the driver can hold if that is less."""
        of_driver = self.driver.capabilities.max_depth
        return self.config.max_depth if of_driver is None else min(self.config.max_depth, of_driver)

    def driver_status(self) -> list[tuple[str, str]]:
        """The driver's diagnostic fields."""
        return self.driver.status()

    def cleanup(self) -> None:
        """Finish deletions that were cut short, and let the driver release what no layer owns.

        One that cannot be finished is logged, and left for the next time.
        """
        for orphan in self.db.removing():
            try:
                if orphan.cache_id is not None:
                    self.driver.remove(orphan.cache_id)
                self.db.finish_removing(orphan.path)
            except (OSError, LayerStoreError) as error:
                logger.error("{}: the deletion could not be finished: {}", orphan.path, error)
        self.driver.cleanup()

    def holders(self, chain_id: str) -> list[str]:
        """What holds a layer, in words, for a person.

        Raises:
            LayerDoesNotExist: there is no such layer.
        """
        with self._references.lock:
            node = self._find(_parse_chain_id(chain_id))
            if node is None:
                raise LayerDoesNotExist(f"there is no layer {chain_id} in {self.root}")
            return node.holders()

    def unheld_layers(self) -> list[Layer]:
        """Views of the layers that nothing holds, and of those that nothing else than they hold; children first."""
        with self._references.lock:
            doomed: dict[ChainID, LayerNode] = {}
            pending = [node for node in self._references.layers.values() if not node.held]
            while pending:
                node = pending.pop()
                doomed[node.record.chain_id] = node
                parent = node.parent
                if (
                    parent is not None
                    and not (parent.handles or parent.mounts or parent.pinned)
                    and parent.children <= doomed.keys()
                ):
                    pending.append(parent)
            return [Layer(self, node, holds=False) for node in doomed.values()]

    def collect(self, layer: Layer) -> list[RemovedLayer]:
        """Delete a layer if nothing holds it by now, and its parents in turn."""
        with self._references.lock:
            known = self._references.layers.get(layer.chain_id) is layer._node
            return self._delete_unheld(layer._node) if known else []

    def scratch_directory(self) -> Path:
        """Where temporary files go; they have no names there, or go with the operation."""
        directory = self.root / "layerstore" / "tmp"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    # What handles and operations share

    def _check_open(self) -> None:
        if self._closed:
            raise LayerStoreError(f"the store {self.root} is closed")

    def _find(self, name: ChainID) -> LayerNode | None:
        """A layer by its name; one that another process has committed meanwhile is loaded."""
        node = self._references.layers.get(name)
        if node is None and self.db.has_layer(name):
            node = restore_layer(self.db, self._pins, self._references, name)
        return node

    def _find_mount(self, name: str) -> MountNode | None:
        with self._references.lock:
            return self._references.mounts.get(name)

    def _mount(self, name: str) -> MountNode:
        node = self._find_mount(name)
        if node is None:
            raise MountDoesNotExist(
                f"there is no writable layer {name!r} in {self.root}; `layerstore rw ls` lists those there are"
            )
        return node

    def _handle(self, node: LayerNode) -> Layer:
        layer = Layer(self, node, holds=True)
        node.handles.add(layer)
        return layer

    def _rw_handle(self, node: MountNode) -> RWLayer:
        rw = RWLayer(self, node)
        node.handles.add(rw)
        return rw

    def _let_go(self, layer: Layer) -> None:
        with self._references.lock:
            if layer not in layer._node.handles:
                what = "was released before" if layer._holds else "is a view, and holds nothing"
                raise LayerNotRetained(f"this handle to layer {layer.chain_id} {what}")
            layer._node.handles.remove(layer)
            layer._released = True

    def _let_go_rw(self, rw: RWLayer) -> None:
        with self._references.lock:
            if rw not in rw._node.handles:
                raise LayerNotRetained(f"this handle to the writable layer {rw.name!r} was released before")
            rw._node.handles.remove(rw)
            rw._released = True

    def _delete_unheld(self, node: LayerNode) -> list[RemovedLayer]:
        """Delete a layer that nothing holds, then its parent, and so on. The lock is held."""
        removed: list[RemovedLayer] = []
        current: LayerNode | None = node
        while current is not None and not current.held:
            record = current.record
            size = current.chain_size
            # The record is renamed first: from then on the layer does not exist, and what is left of
            # it is known as a deletion to be finished, whatever happens to the driver's part.
            marked = self.db.mark_removing(record.chain_id)
            self._references.drop_layer(current)
            self.driver.remove(record.cache_id)
            self.db.finish_removing(marked)
            removed.append(RemovedLayer(record.chain_id, record.diff_id, size, record.size))
            current = current.parent
        return removed

    def _undo_create(self, layer_id: str) -> None:
        try:
            self.driver.remove(layer_id)
        except (OSError, LayerStoreError) as error:
            logger.error("the driver's layer {} is left over: it could not be removed: {}", layer_id, error)

    def _tar_stream(self, node: LayerNode) -> BinaryIO:
        return tar_stream(self.db, self.driver, node)

    def _apply_to(self, layer_id: str, parent_id: str, stream: BinaryIO | str | os.PathLike[str]) -> int:
        with LayerSource(
            stream, spool_dir=self.scratch_directory(), max_size=self.config.max_layer_size
        ) as source:
            diff = LayerStream(TarScanner(source.read_chunk))
            size = self.driver.apply_diff(layer_id, parent_id, diff)
            diff.drain()
            return size


def _parse_chain_id(text: str) -> ChainID:
    try:
        return ChainID(text)
    except ValueError as error:
        raise LayerDoesNotExist(f"{error}; `layerstore ls` lists the chain IDs there are") from error
