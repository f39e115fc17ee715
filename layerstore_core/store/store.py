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

from layerstore_core.base.arguments import chain_id_in, check_stream, check_type, parent_in
from layerstore_core.base.digests import ChainID
from layerstore_core.config.load import load_config
from layerstore_core.config.model import StoreConfig
from layerstore_core.errors import (
    BadRecord,
    LayerDoesNotExist,
    LayerNotRetained,
    MountDoesNotExist,
    done_before,
    note_done,
)
from layerstore_core.records.layer_record import check_mount_name
from layerstore_core.store import writable
from layerstore_core.store.catalog import Problem
from layerstore_core.store.context import StoreContext
from layerstore_core.store.delete import delete_unreferenced, recover, unreferenced_closure
from layerstore_core.store.handles import (
    Layer,
    RWLayer,
    close_layer,
    close_rw_layer,
    live_layer,
    live_rw_layer,
    node_of,
    open_layer,
    open_rw_layer,
)
from layerstore_core.store.nodes import LayerNode, RemovedLayer
from layerstore_core.store.open import open_store

if TYPE_CHECKING:
    from types import TracebackType

    from layerstore_core.config.settings import Settings
    from layerstore_core.driver.bound import BoundDriver
    from layerstore_core.store.register_chain import LayerInput
    from layerstore_core.store.registration import Progress


class LayerStore:
    """An open store; made by `LayerStore.open`, and to be closed, or used in a `with` statement.

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
        """Open the store, and make it where there is none.

        What processes that have died left half done is finished or undone. A root that cannot be written can be
        read.

        Args:
            config: settings, all of them; `None`: from arguments, environment, files and defaults.
            create: whether to make a store where there is none.
            read_only: change nothing: what would is a `ReadOnlyStore`. Beside a running Docker daemon there is no
                other way. Nothing is held: what is being read may be deleted by others.
            overrides: settings by name (`root`, `driver`, …), which go before all others.

        Raises:
            ConfigError: a setting cannot be used.
            StoreDoesNotExist: there is no store, and none is to be made.
            RootInUse: a Docker daemon is running on this root.
            DriverNotFound: the driver, which the settings name or the store was made with, is not installed.
            DriverNotSupported: it cannot work here.
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
        """Give all handles and mounts back; nothing is deleted. A second call does what the first did not come to.

        In a forked child, whose handles and mounts these are not, nothing is done.
        """
        self.context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The parts that programs may look at

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
        """Take in a layer.

        Args:
            stream: its tar, as a path or a binary file object; gzip, zstd, xz and bzip2 are recognised.
            parent: the layer below, or its chain ID; `""` or `None` for a base layer.
            descriptor: an OCI descriptor to keep with the layer.
            progress: called now and then with the bytes read and the entries seen so far.
            allow_empty: take a stream without a byte for an empty layer. Two blocks of zeros, a tar's end, are one anyway.

        Returns:
            A handle to the layer: the new one, or the one that was there, if the chain was known.

        Raises:
            InvalidLayer: the input is damaged, is empty, or leaves its root; the store is as it was.
            LayerDoesNotExist: there is no such parent.
            MaxDepthExceeded: the chain is as long as it may be.
            OSError: the system refuses; the store is as it was.
        """
        self.context.check_writable()
        check_stream(stream)
        self.context.lost.require_none()
        with self._below(parent) as below:
            from layerstore_core.store.register import register  # lazy: readers need no scanner

            return register(self.context, stream, below, descriptor, progress, allow_empty=allow_empty)

    def register_chain(self, layers: Sequence[LayerInput], parent: str | Layer | None = "") -> Layer:
        """Take in layers that stand one on the other, all or none. Those that are known already are not read.

        Where the driver can do it, they are read, verified and unpacked at the same time.

        Args:
            layers: the base first; at least one.
            parent: the layer below the first, or its chain ID; `""` or `None` for none.

        Returns:
            A handle to the topmost.

        Raises:
            InvalidLayer: one is damaged, leaves its root, or is not what it was said to be; the message names it.
            LayerDoesNotExist, MaxDepthExceeded, OSError: as `register`.
        """
        self.context.check_writable()
        if not layers:
            raise ValueError("at least one layer is to be registered")
        self.context.lost.require_none()
        with self._below(parent) as below:
            from layerstore_core.store.register import register_chain  # lazy: as in `register`

            return register_chain(self.context, layers, below)

    def get(self, chain_id: str | Layer) -> Layer:
        """A handle to a layer: one reference.

        Raises:
            LayerDoesNotExist: there is no such layer.
            IntegrityError: its record, or that of a layer below, is damaged.
        """
        self.context.check_open()
        layer = open_layer(self.context, _parse_chain_id(chain_id))
        if layer is None:
            raise self._no_layer(chain_id)
        return layer

    def layers(self) -> dict[ChainID, Layer]:
        """Views of all layers, by chain ID. They hold nothing, and cannot be released."""
        self.context.check_open()
        return {name: Layer(self.context, node, is_view=True) for name, node in self.context.catalog.layers().items()}

    def find(self, chain_id: ChainID) -> Layer | None:
        """A view of one layer, as `layers` has it; `None` where it cannot be loaded."""
        self.context.check_open()
        node = self.context.catalog.find_layer(chain_id)
        return None if node is None else Layer(self.context, node, is_view=True)

    def chain_ids(self) -> list[ChainID]:
        """The chain IDs of all layers, sorted, also of those that cannot be loaded. Reads no records, so it is quick."""
        self.context.check_open()
        return self.context.db.list_layers()

    def has_layer(self, chain_id: str | Layer) -> bool:
        """Whether there is such a layer, even if it cannot be loaded. Reads no records."""
        self.context.check_open()
        return self.context.db.has_layer(_parse_chain_id(chain_id))

    def release(self, layer: Layer) -> list[RemovedLayer]:
        """Give a handle back, and delete the layer, and its parents in turn, where nothing else holds them.

        Returns:
            What was deleted, the layer first.

        Raises:
            LayerNotRetained: the handle was released before, or is a view.
            OSError: a deletion failed; what is left is found by `cleanup`. What was deleted before is the error's `done`.
        """
        self.context.check_open()
        close_layer(self.context, layer)
        return delete_unreferenced(self.context, node_of(layer))

    def pin(self, layer: Layer) -> None:
        """Keep a layer when no process holds it. A second pin does nothing.

        Raises:
            LayerNotRetained: the handle was released, or is a view: what nobody holds may be gone.
        """
        self.context.check_writable()
        check_type(layer, Layer, "a handle to a layer, as get and register give it")
        node = live_layer(layer)
        if layer not in node.handles:
            raise LayerNotRetained(f"a view of layer {layer.chain_id} cannot be pinned; get the layer first")
        self.context.pins.add(node.record.chain_id)

    def unpin(self, chain_id: str | Layer) -> None:
        """Take the pin of a layer away; the layer stays until it is released or collected.

        Raises:
            LayerDoesNotExist: there is neither a pin nor a layer of this name.
        """
        self.context.check_writable()
        name = _parse_chain_id(chain_id)
        if name not in self.context.pins and not self.context.db.has_layer(name):
            raise LayerDoesNotExist(f"there is no layer {name} in {self.root}, and no pin of it")
        self.context.pins.remove(name)

    def pins(self) -> set[ChainID]:
        """The chain IDs that are pinned."""
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
    ) -> RWLayer:
        """Make a writable layer.

        Args:
            name: what to call it: 1 to 255 bytes, no slash, not `.` or `..`.
            parent: the layer below, or its chain ID; `""` or `None` for none.
            mount_label: an SELinux label.
            storage_opt: the driver's options for this layer, such as `size`.
            init: called once with the path of a layer between parent and writable layer; what it
                writes there is not part of the writable layer's changes.

        Raises:
            MountNameConflict: the name is taken.
            LayerDoesNotExist: there is no such parent.
            InvalidMountName: the name cannot be used.
            ConfigError: the driver does not know a storage option, or cannot keep to it.
        """
        self.context.check_writable()
        check_mount_name(name)
        self.context.lost.require_none()
        with ExitStack() as stack:
            stack.enter_context(self.context.locks.exclusive(self.context.name_key(name)))
            below = stack.enter_context(self._below(parent))
            writable.create(
                self.context,
                name,
                below,
                mount_label=mount_label,
                storage_opt=dict(storage_opt or {}),
                init=init,
                flush=stack.enter_context(self.context.flushing()),
            )
            return self._open_rw_layer(name)

    def get_rw_layer(self, name: str) -> RWLayer:
        """A handle to a writable layer: one reference.

        Raises:
            MountDoesNotExist: there is none of this name.
            IntegrityError: its record is damaged.
        """
        self.context.check_open()
        check_mount_name(name)
        with self.context.locks.exclusive(self.context.name_key(name)):
            return self._open_rw_layer(name)

    def rw_layers(self) -> list[str]:
        """The names of all writable layers, sorted."""
        self.context.check_open()
        return sorted(self.context.catalog.mounts())

    def mount_id(self, name: str) -> str:
        """The driver's ID of a writable layer.

        Raises:
            MountDoesNotExist: there is none of this name.
        """
        self.context.check_open()
        check_mount_name(name)
        node = self.context.catalog.find_mount(name)
        if node is None:
            raise self._no_mount(name)
        return node.record.mount_id

    def release_rw_layer(self, rw: RWLayer) -> list[RemovedLayer]:
        """Give a handle back; with the last one the writable layer goes, and with it what only it held.

        A handle that another process has keeps the writable layer, too.

        Returns:
            The read-only layers that were deleted.

        Raises:
            LayerNotRetained: the handle was released before.
            OSError: the driver could not delete it; the handle is good again, for another try. Where the error has an
                attribute `done`, the writable layer is gone, with these layers, and a layer below could not be deleted.
        """
        self.context.check_writable()
        check_type(rw, RWLayer, "a handle to a writable layer, as create_rw_layer and get_rw_layer give it")
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
        """The driver's name, as it stands on disk."""
        return self.driver.name

    @property
    def max_depth(self) -> int:
        """How many layers a chain may have: the setting, or what the driver can hold if that is less."""
        return self.context.max_depth

    @property
    def read_only(self) -> bool:
        """Whether nothing is to be changed, or can be."""
        return self.context.read_only or not self.context.locks.writable

    @property
    def load_problems(self) -> list[Problem]:
        """Layers and writable layers that cannot be loaded, each with file and reason."""
        self.context.check_open()
        return self.context.catalog.problems()

    def driver_status(self) -> list[tuple[str, str]]:
        """The driver's diagnostic fields."""
        self.context.check_open()
        return self.driver.status()

    def cleanup(self) -> None:
        """Finish deletions that were cut short, drop what dead processes left, and let the driver tidy up.

        What cannot be finished is logged, and left for the next time.
        """
        self.context.check_writable()
        recover(self.context)
        self.driver.cleanup()

    def holders(self, chain_id: str | Layer) -> list[str]:
        """What holds a layer, in words, for a person.

        Raises:
            LayerDoesNotExist: there is no such layer.
        """
        self.context.check_open()
        node = self.context.catalog.find_layer(_parse_chain_id(chain_id))
        if node is None:
            raise self._no_layer(chain_id)
        return self.context.catalog.references_to(node)

    def unreadable(self) -> list[BadRecord]:
        """What cannot be read, and may refer to any layer: as long as there is something, no layer is deleted."""
        self.context.check_open()
        return self.context.catalog.unreadable()

    def unheld_layers(self, *, ignore_unreadable: bool = False) -> list[Layer]:
        """Views of the layers that nothing holds, and of those that nothing else than they hold; children first.

        Args:
            ignore_unreadable: also those that what cannot be read may hold.
        """
        self.context.check_open()
        unheld = unreferenced_closure(self.context.catalog, ignore_unreadable=ignore_unreadable)
        return [Layer(self.context, node, is_view=True) for node in unheld]

    def collect(self, layer: Layer) -> list[RemovedLayer]:
        """Delete a layer if nothing holds it by now, and its parents in turn; answer and errors as `release`."""
        self.context.check_writable()
        check_type(layer, Layer, "a layer, as unheld_layers gives it")
        return delete_unreferenced(self.context, node_of(layer))

    # What handles and operations share

    @contextmanager
    def _below(self, parent: object) -> Iterator[LayerNode | None]:
        """A layer to stand on, held for the length of a block; `None` for `""`."""
        chain_id = parent_in(parent)
        if not chain_id:
            yield None
            return
        with self.get(chain_id) as layer:
            yield live_layer(layer)

    def _open_rw_layer(self, name: str) -> RWLayer:
        """Open a handle to a writable layer, whose name the caller has locked: it is not being deleted."""
        handle = open_rw_layer(self.context, name)
        if handle is None:
            raise self._no_mount(name)
        return handle

    def _no_layer(self, layer: str | Layer) -> LayerDoesNotExist:
        return LayerDoesNotExist(
            f"there is no layer {chain_id_in(layer)} in {self.root}; `layerstore ls` lists those there are"
        )

    def _no_mount(self, name: str) -> MountDoesNotExist:
        return MountDoesNotExist(
            f"there is no writable layer {name!r} in {self.root}; `layerstore rw ls` lists those there are"
        )


def _parse_chain_id(layer: object) -> ChainID:
    try:
        return ChainID(chain_id_in(layer))
    except ValueError as error:
        raise LayerDoesNotExist(f"{error}; `layerstore ls` lists the chain IDs there are") from error
