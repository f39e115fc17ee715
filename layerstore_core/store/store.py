"""The layer store: layers and writable layers over one driver, under one root.

Operations and their semantics follow Docker's layer store (moby, `daemon/internal/layer`), as do the
formats on disk. Where that store is weak this one differs, and the tests say so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, Unpack

from layerstore_core.base.arguments import check_stream, check_type, parent_in
from layerstore_core.base.digests import ChainID, ImageID
from layerstore_core.config.load import load_config
from layerstore_core.config.model import StoreConfig
from layerstore_core.errors import (
    BadRecord,
    LayerDoesNotExist,
    LayerNotRetained,
    done_before,
    note_done,
)
from layerstore_core.records.layer_record import check_mount_name
from layerstore_core.store.context import StoreContext
from layerstore_core.store.delete import delete_unreferenced, recover, unreferenced_closure
from layerstore_core.store.handles import (
    Layer,
    RWLayer,
    close_layer,
    close_rw_layer,
    live_layer,
    live_rw_layer,
    no_layer,
    no_rw_layer,
    node_of,
    open_layer,
    open_rw_layer,
    parse_chain_id,
)
from layerstore_core.store.nodes import LayerNode, Problem, RemovedLayer
from layerstore_core.store.open import open_store

if TYPE_CHECKING:
    from types import TracebackType

    from layerstore_core.config.settings import Settings
    from layerstore_core.driver.bound import BoundDriver
    from layerstore_core.store.registration.chain import LayerInput
    from layerstore_core.store.registration.layer import Progress


class LayerStore:
    """An open store of layers and writable layers. Open it with `LayerStore.open`; close it, or use a `with` statement.

    A handle (`Layer`, `RWLayer`) is a reference: as long as it is open, no process deletes what it refers to.
    `register`, `get` and `create_rw_layer` open handles. `release` and `release_rw_layer` close one, and delete what
    nothing refers to any more; `Layer.close` and `RWLayer.close` delete nothing.

    All methods may be called from several threads, and several processes may have the same root open.

    Operations are functions of this package over `StoreContext`; the methods here check the arguments and take locks.
    """

    def __init__(self, context: StoreContext) -> None:
        #: The parts of the store, for the rest of this package. They may change with any version.
        self.context: Final = context

    @classmethod
    def open(
        cls,
        config: StoreConfig | None = None,
        /,
        *,
        create: bool = True,
        read_only: bool = False,
        **overrides: Unpack[Settings],
    ) -> LayerStore:
        """Open the store under a root, and create it where there is none.

        Unfinished work of processes that have ended is finished or undone. A root that cannot be written can still be
        read.

        Args:
            config: settings, all of them; `None`: from arguments, environment, files and defaults.
            create: whether to create a store where there is none.
            read_only: change nothing: a method that would raises `ReadOnlyStore`. While a Docker daemon is running on
                the root there is no other way. No references are taken: other processes may delete what is being read.
            overrides: settings by name (`root`, `driver`, …), which take precedence over all others.

        Raises:
            ConfigError: a setting cannot be used.
            StoreDoesNotExist: there is no store, and none is to be created.
            RootInUse: a Docker daemon is running on this root.
            DriverNotFound: the driver, which the settings name or the store was created with, is not installed.
            DriverNotSupported: the driver cannot work here.
            AmbiguousDriver: the root has the state of several drivers, and none was named.
            LocksUnavailable: the root's file system has no working locks.
            LayerStoreError: /proc is not mounted, and the store is not opened for reading only.
        """
        if config is not None:
            check_type(config, StoreConfig, "settings as a StoreConfig or as keywords, as in LayerStore.open(root=…)")
        if config is None:
            config = load_config(**overrides)
        elif overrides:
            config = config.with_overrides(**overrides)
        return cls(open_store(config, create=create, read_only=read_only))

    def close(self) -> None:
        """Close all handles and mounts; nothing is deleted. A second call finishes what the first did not.

        In a forked child, to which these handles and mounts do not belong, nothing is done.
        """
        self.context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Settings and parts of the store

    @property
    def config(self) -> StoreConfig:
        """The settings in force, and where each came from."""
        return self.context.config

    @property
    def root(self) -> Path:
        """The store's directory."""
        return self.context.root

    @property
    def driver(self) -> BoundDriver:
        """The graph driver, behind the contract."""
        return self.context.driver

    # Layers

    def register(
        self,
        stream: BinaryIO | str | os.PathLike[str],
        parent: str | Layer | None = "",
        *,
        descriptor: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        allow_empty: bool = False,
    ) -> Layer:
        """Register a layer: unpack its tar into the driver, verify it, and commit its record.

        Args:
            stream: its tar, as a path or a binary file object; gzip, zstd, xz and bzip2 are recognised.
            parent: the parent layer, or its chain ID; `""` or `None` for a base layer.
            descriptor: an OCI descriptor to keep with the layer.
            progress: called now and then with the bytes read and the entries seen so far.
            allow_empty: accept a stream without a byte as an empty layer. Two blocks of zeros, a tar's end, are always
                an empty layer.

        Returns:
            A handle to the layer: to the new one, or to the existing one if the chain is known already.

        Raises:
            InvalidLayer: the input is damaged, is empty, or leaves its root; the store is as it was.
            LayerDoesNotExist: there is no such parent.
            MaxDepthExceeded: the chain is as long as it may be.
            OSError: the system refuses; the store is as it was.
        """
        self.context.check_writable()
        check_stream(stream)
        self.context.lost.require_none()
        with self._open_parent(parent) as parent_node:
            from layerstore_core.store.register import register  # lazy: readers need no scanner

            return register(self.context, stream, parent_node, descriptor, progress, allow_empty=allow_empty)

    def register_chain(self, layers: Sequence[LayerInput], parent: str | Layer | None = "") -> Layer:
        """Register layers of which each is the parent of the next: all or none. Layers that are known are not read.

        Where the driver is able to, they are read, verified and unpacked at the same time.

        Args:
            layers: the base first; at least one.
            parent: the parent of the first, or its chain ID; `""` or `None` for none.

        Returns:
            A handle to the topmost layer.

        Raises:
            InvalidLayer: a layer is damaged, leaves its root, or has another digest than given; the message names it.
            LayerDoesNotExist, MaxDepthExceeded, OSError: as `register`.
        """
        self.context.check_writable()
        if not layers:
            raise ValueError("at least one layer is to be registered")
        self.context.lost.require_none()
        with self._open_parent(parent) as parent_node:
            from layerstore_core.store.register import register_chain  # lazy: as in `register`

            return register_chain(self.context, layers, parent_node)

    def get(self, chain_id: str | Layer) -> Layer:
        """Open a handle to a layer: one reference.

        Raises:
            LayerDoesNotExist: there is no such layer.
            IntegrityError: its record, or that of an ancestor, is damaged.
        """
        self.context.check_open()
        layer = open_layer(self.context, parse_chain_id(chain_id))
        if layer is None:
            raise no_layer(self.context, chain_id)
        return layer

    def layers(self) -> dict[ChainID, Layer]:
        """Return views of all layers that can be loaded, by chain ID; `load_problems` has the others.

        Views are no references, and cannot be released.
        """
        self.context.check_open()
        return {name: Layer(self.context, node, is_view=True) for name, node in self.context.catalog.layers().items()}

    def find(self, chain_id: ChainID) -> Layer | None:
        """Return a view of one layer, as in `layers`; `None` if there is no such layer.

        Raises:
            BadRecord: its record, or that of an ancestor, is damaged.
            OSError: a record cannot be read.
        """
        self.context.check_open()
        node = self.context.catalog.find_layer(chain_id)
        return None if node is None else Layer(self.context, node, is_view=True)

    def chain_ids(self) -> list[ChainID]:
        """Return the chain IDs of all layers, sorted, also of those that cannot be loaded. Quick: reads no records."""
        self.context.check_open()
        return self.context.db.list_layers()

    def has_layer(self, chain_id: str | Layer) -> bool:
        """Return whether there is such a layer, even if it cannot be loaded. Reads no records."""
        self.context.check_open()
        return self.context.db.has_layer(parse_chain_id(chain_id))

    def release(self, layer: Layer, *, only_made: bool = False) -> list[RemovedLayer]:
        """Close a handle. Delete the layer if nothing else refers to it, then its parent, and so on.

        With `only_made` no layers are deleted but those that the registration has made (`Layer.made`).

        Returns:
            The layers that were deleted, the given one first.

        Raises:
            LayerNotRetained: the handle was released before, or is a view.
            OSError: a deletion failed; `cleanup` finishes it. The error's `done` has the layers deleted before.
        """
        self.context.check_open()
        close_layer(self.context, layer)
        return delete_unreferenced(self.context, node_of(layer), layer.made if only_made else None)

    def pin(self, layer: Layer) -> None:
        """Pin a layer: a pin keeps it when no process has a handle to it. A second pin does nothing.

        Raises:
            LayerNotRetained: the handle was released, or is a view: without a handle the layer may be gone.
        """
        self.context.check_writable()
        check_type(layer, Layer, "a handle to a layer, as get and register give it")
        node = live_layer(layer)
        if layer not in node.handles:
            raise LayerNotRetained(f"a view of layer {layer.chain_id} cannot be pinned; get the layer first")
        self.context.pins.add(node.record.chain_id)

    def unpin(self, chain_id: str | Layer) -> None:
        """Remove the pin of a layer; the layer stays until it is released or collected.

        Raises:
            LayerDoesNotExist: there is neither a pin nor a layer of this name.
        """
        self.context.check_writable()
        name = parse_chain_id(chain_id)
        if name not in self.context.pins and not self.context.db.has_layer(name):
            raise LayerDoesNotExist(f"there is no layer {name} in {self.root}, and no pin of it")
        self.context.pins.remove(name)

    def pins(self) -> set[ChainID]:
        """Return the chain IDs of all pinned layers."""
        self.context.check_open()
        return set(self.context.pins)

    # Writable layers

    def create_rw_layer(
        self,
        name: str,
        parent: str | Layer | None = "",
        *,
        mount_label: str = "",
        storage_opt: Mapping[str, str] | None = None,
        init: Callable[[str], None] | None = None,
        image: ImageID | None = None,
    ) -> RWLayer:
        """Create a writable layer.

        Args:
            name: its name: 1 to 255 bytes, no slash, not `.` or `..`.
            parent: the parent layer, or its chain ID; `""` or `None` for none.
            mount_label: an SELinux label.
            storage_opt: the driver's options for this layer, such as `size`.
            init: called once with the path of an init layer between the parent and the writable layer; what it
                writes there is not part of the writable layer's changes.
            image: the image that the parent is of, which is recorded with it; see `Images.create_rw_layer`.

        Returns:
            A handle to the writable layer.

        Raises:
            MountNameConflict: the name is taken.
            LayerDoesNotExist: there is no such parent.
            InvalidMountName: the name cannot be used.
            ConfigError: the driver does not know a storage option, or cannot comply with it.
        """
        self.context.check_writable()
        check_mount_name(name)
        self.context.lost.require_none()
        with ExitStack() as stack:
            stack.enter_context(self.context.locks.exclusive(self.context.name_key(name)))
            parent_node = stack.enter_context(self._open_parent(parent))
            from layerstore_core.store import writable  # lazy: few commands change writable layers

            writable.create(
                self.context,
                name,
                parent_node,
                mount_label=mount_label,
                storage_opt=dict(storage_opt or {}),
                init=init,
                image=image,
                flush=stack.enter_context(self.context.flushing()),
            )
            return self._open_rw_layer(name)

    def get_rw_layer(self, name: str) -> RWLayer:
        """Open a handle to a writable layer: one reference.

        Raises:
            MountDoesNotExist: there is no writable layer of this name.
            IntegrityError: its record is damaged.
        """
        self.context.check_open()
        check_mount_name(name)
        with self.context.locks.exclusive(self.context.name_key(name)):
            return self._open_rw_layer(name)

    def rw_layers(self) -> list[str]:
        """Return the names of all writable layers that can be loaded, sorted; `load_problems` has the others."""
        self.context.check_open()
        return sorted(self.context.catalog.mounts())

    def mount_id(self, name: str) -> str:
        """Return the driver's ID of a writable layer.

        Raises:
            MountDoesNotExist: there is no writable layer of this name.
        """
        self.context.check_open()
        check_mount_name(name)
        node = self.context.catalog.find_mount(name)
        if node is None:
            raise no_rw_layer(self.context, name)
        return node.record.mount_id

    def release_rw_layer(self, rw: RWLayer) -> list[RemovedLayer]:
        """Close a handle. With the last one, delete the writable layer and the layers to which only it referred.

        A handle of another process keeps the writable layer, too.

        Returns:
            The read-only layers that were deleted.

        Raises:
            LayerNotRetained: the handle was released before.
            OSError: the driver could not delete it; the handle is open again, for another try. If the error has an
                attribute `done`, the writable layer itself is deleted. `done` has the layers that were deleted after
                it, and the next parent could not be.
        """
        self.context.check_writable()
        check_type(rw, RWLayer, "a handle to a writable layer, as create_rw_layer and get_rw_layer give it")
        from layerstore_core.store import writable  # lazy: as in `create_rw_layer`

        with self.context.locks.exclusive(self.context.name_key(rw.name)):
            node = live_rw_layer(rw)
            close_rw_layer(self.context, rw)
            with self.context.locks.lock_references(node.lock_key) as alone:
                if node.handles or not alone:
                    return []
                try:
                    writable.delete(self.context, node)
                except BaseException:
                    if self.context.db.has_mount(rw.name):
                        self.context.catalog.reopen_handle(node, rw)
                    raise
        try:
            return delete_unreferenced(self.context, node.parent) if node.parent else []
        except BaseException as error:
            error.add_note(f"the writable layer {rw.name!r} itself is removed")
            note_done(error, done_before(error) or [])
            raise

    # The store itself

    @property
    def driver_name(self) -> str:
        """The driver's name, as it is on disk."""
        return self.driver.name

    @property
    def max_depth(self) -> int:
        """The most layers that a chain may have: the setting, or what the driver can hold if that is less."""
        return self.context.max_depth

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed, or nothing can be."""
        return self.context.read_only or not self.context.locks.writable

    @property
    def load_problems(self) -> list[Problem]:
        """The records of layers and writable layers that cannot be loaded, each with file and reason."""
        self.context.check_open()
        return self.context.catalog.problems()

    def driver_status(self) -> list[tuple[str, str]]:
        """Return the driver's diagnostic fields."""
        self.context.check_open()
        return self.driver.status()

    def cleanup(self) -> None:
        """Finish interrupted deletions, remove the unfinished work of ended processes, and let the driver clean up.

        A step that fails is logged, and left for the next time.
        """
        self.context.check_writable()
        recover(self.context)
        self.driver.cleanup()

    def holders(self, chain_id: str | Layer) -> list[str]:
        """Return what refers to a layer, in words for a person.

        Raises:
            LayerDoesNotExist: there is no such layer.
        """
        self.context.check_open()
        node = self.context.catalog.find_layer(parse_chain_id(chain_id))
        if node is None:
            raise no_layer(self.context, chain_id)
        return self.context.catalog.references_to(node)

    def unreadable(self) -> list[BadRecord]:
        """Return what cannot be read and may refer to any layer. As long as there is something, no layer is deleted."""
        self.context.check_open()
        return self.context.catalog.unreadable()

    def unheld_layers(self, *, ignore_unreadable: bool = False) -> list[Layer]:
        """Return views of the layers to which nothing refers, or only other such layers; children first.

        Args:
            ignore_unreadable: also those to which something that cannot be read may refer.
        """
        self.context.check_open()
        nodes = unreferenced_closure(self.context.catalog, ignore_unreadable=ignore_unreadable)
        return [Layer(self.context, node, is_view=True) for node in nodes]

    def collect(self, layer: Layer) -> list[RemovedLayer]:
        """Delete a layer if nothing refers to it now, then its parent, and so on; answer and errors as `release`."""
        self.context.check_writable()
        check_type(layer, Layer, "a layer, as unheld_layers gives it")
        return delete_unreferenced(self.context, node_of(layer))

    # Private helpers

    @contextmanager
    def _open_parent(self, parent: object) -> Iterator[LayerNode | None]:
        """Open the parent of a new layer for the length of a block; yield `None` for `""`."""
        chain_id = parent_in(parent)
        if not chain_id:
            yield None
            return
        with self.get(chain_id) as layer:
            yield live_layer(layer)

    def _open_rw_layer(self, name: str) -> RWLayer:
        """Open a handle to a writable layer, whose name the caller has locked so that it is not being deleted."""
        handle = open_rw_layer(self.context, name)
        if handle is None:
            raise no_rw_layer(self.context, name)
        return handle
