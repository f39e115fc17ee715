"""The layer store: layers and writable layers over one driver, under one root.

Operations and their semantics follow Docker's layer store (moby, `daemon/internal/layer`), as do the
formats on disk. Where that store is weak this one differs, and the tests say so.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, Unpack, cast

from layerstore_core.base import inside
from layerstore_core.base.arguments import chain_id_in, check_settings, check_stream, check_type, parent_in
from layerstore_core.base.digests import ChainID
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.driver.open import check_driver, check_options, open_driver
from layerstore_core.driver.prior import note_driver
from layerstore_core.errors import (
    BadRecord,
    LayerDoesNotExist,
    LayerNotRetained,
    LayerStoreError,
    MountDoesNotExist,
    ReadOnlyStore,
    done_before,
    note_done,
)
from layerstore_core.locking.docker_lock import DockerLock
from layerstore_core.locking.root_locks import Counter, RootLocks
from layerstore_core.log import logger, wants_details
from layerstore_core.records.buildkit import BuildKitCache
from layerstore_core.records.image_references import UNKNOWN_VERSION
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.records.layer_record import check_mount_name
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.records.pins import Pins
from layerstore_core.records.quarantined import Quarantined
from layerstore_core.store import writable
from layerstore_core.store.catalog import Catalog, Problem
from layerstore_core.store.delete import delete_unheld, recover, unheld_closure
from layerstore_core.store.handles import Layer, RemovedLayer, RWLayer
from layerstore_core.store.locate import has_store, require_proc, require_store
from layerstore_core.store.lost import LostLayers, LostRecords
from layerstore_core.store.nodes import LayerNode, MountNode
from layerstore_core.store.parentage import KnownParents

if TYPE_CHECKING:
    from types import TracebackType

    from layerstore_core.base.limits import Limits
    from layerstore_core.config.model import StoreConfig
    from layerstore_core.config.sources import Settings
    from layerstore_core.store.intake import Intake
    from layerstore_core.store.register_chain import LayerInput
    from layerstore_core.store.registration import Progress


class LayerStore:
    """An open store; made by `LayerStore.open`, and to be closed, or used in a `with` statement.

    All methods may be called from several threads, and several processes may have the same root open.

    Attributes:
        root: the store's directory.
        config: the settings in force, and where each came from.
        driver: the graph driver, behind the contract.
    """

    def __init__(
        self,
        config: StoreConfig,
        driver: BoundDriver,
        locks: RootLocks,
        *,
        read_only: bool = False,
        docker: DockerLock | None = None,
    ) -> None:
        self.config = config
        self.root: Path = config.root
        inside.guard(self.root)
        self.driver = driver
        self.db: Final = LayerDB(self.root / "image" / driver.name / "layerdb", durability=config.durability)
        self._locks = locks
        self._read_only = read_only
        self._docker = docker
        durable = config.durability == "full"
        self._pins = Pins(self.root, driver.name, durable=durable)
        self.image_db: Final = ImageDB(
            self.root / "image" / driver.name, durable=durable, version=self._version_of_images
        )
        quarantined = Quarantined(self.root, self.db, driver.name)
        holders = self._pins, self.image_db, BuildKitCache(self.root), quarantined
        self._catalog = Catalog(self.db, driver.name, holders, locks, _warn)
        self._catalog.add_holder(KnownParents(driver, self._catalog.mounts, self._catalog.find_layer))
        self._lost: Final = LostRecords(self)
        self._catalog.add_holder(self._lost)
        self._catalog.add_holder(LostLayers(self.db, self._pins, quarantined, self._catalog))
        if locks.writable:
            recover(self.db, driver)
        self._closed = False  # from here on whoever has the store is to close it

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
        check_settings(config)
        if config is None:
            from layerstore_core.config.model import load_config  # with pydantic, which takes long to load

            config = load_config(**overrides)
        elif overrides:
            config = config.with_overrides(**overrides)
        inside.guard(config.root)
        if not read_only:
            require_proc()
        if not has_store(config.root):
            if read_only or not create:
                check_options(config)
                require_store(config.root, config.sources["root"])
            check_driver(config)
        with ExitStack() as opened:
            docker = None
            if not read_only:
                docker = DockerLock(config.root)
                opened.callback(docker.close)
            locks = RootLocks(config.root / "layerstore" / "locks", read_only=read_only)
            opened.callback(locks.close)
            store = cls(config, open_driver(config, locks), locks, read_only=read_only, docker=docker)
            opened.callback(store.close)
            if create and locks.writable:
                note_driver(config.root, store.driver_name, durable=config.durability == "full")
            opened.pop_all()
            logger.info("opened the store {}: driver {}", config.root, store.driver_name)
            if wants_details():
                for name, source in config.sources.items():
                    if source != "default":
                        logger.debug("setting {} = {} (from: {})", name, getattr(config, name), source)
            return store

    def close(self) -> None:
        """Give all handles and mounts back; nothing is deleted. A second call does what the first did not come to.

        In a forked child, whose handles and mounts these are not, nothing is done.
        """
        self._closed = True
        if self._locks.inherited:
            return
        with ExitStack() as parts:
            if self._docker is not None:
                parts.callback(self._docker.close)
            parts.callback(self._locks.close)
            parts.callback(self._catalog.release_all)
            parts.callback(self.driver.close)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._locks.inherited and not sys.is_finalizing():
            warnings.warn(f"the store {self.root} was never closed", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        self._check_writable()
        check_stream(stream)
        self._lost.require()
        with self._below(parent) as below:
            return self._intake.register(stream, below, descriptor, progress, allow_empty=allow_empty)

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
        self._check_writable()
        if not layers:
            raise ValueError("at least one layer is to be registered")
        self._lost.require()
        with self._below(parent) as below:
            return self._intake.register_chain(layers, below)

    def get(self, chain_id: str | Layer) -> Layer:
        """A handle to a layer: one reference.

        Raises:
            LayerDoesNotExist: there is no such layer.
            IntegrityError: its record, or that of a layer below, is damaged.
        """
        self._check_open()
        layer = self._hold(_parse_chain_id(chain_id))
        if layer is None:
            raise self._no_layer(chain_id)
        return layer

    def layers(self) -> dict[ChainID, Layer]:
        """Views of all layers, by chain ID. They hold nothing, and cannot be released."""
        self._check_open()
        return {name: Layer(self, node, holds=False) for name, node in self._catalog.layers().items()}

    def find(self, chain_id: ChainID) -> Layer | None:
        """A view of one layer, as `layers` has it; `None` where it cannot be loaded."""
        self._check_open()
        node = self._catalog.find_layer(chain_id)
        return None if node is None else Layer(self, node, holds=False)

    def chain_ids(self) -> list[ChainID]:
        """The chain IDs of all layers, sorted, also of those that cannot be loaded. Reads no records, so it is quick."""
        self._check_open()
        return self.db.list_layers()

    def has_layer(self, chain_id: str | Layer) -> bool:
        """Whether there is such a layer, even if it cannot be loaded. Reads no records."""
        self._check_open()
        return self.db.has_layer(_parse_chain_id(chain_id))

    def release(self, layer: Layer) -> list[RemovedLayer]:
        """Give a handle back, and delete the layer, and its parents in turn, where nothing else holds them.

        Returns:
            What was deleted, the layer first.

        Raises:
            LayerNotRetained: the handle was released before, or is a view.
            OSError: a deletion failed; what is left is found by `cleanup`. What was deleted before is the error's `done`.
        """
        self._check_open()
        self._let_go(layer)
        return delete_unheld(self._catalog, self.db, self.driver, layer._node)

    def pin(self, layer: Layer) -> None:
        """Keep a layer when no process holds it. A second pin does nothing.

        Raises:
            LayerNotRetained: the handle was released, or is a view: what nobody holds may be gone.
        """
        self._check_writable()
        check_type(layer, Layer, "a handle to a layer, as get and register give it")
        node = layer._live
        if layer not in node.handles:
            raise LayerNotRetained(f"a view of layer {layer.chain_id} cannot be pinned; get the layer first")
        self._pins.add(node.record.chain_id)

    def unpin(self, chain_id: str | Layer) -> None:
        """Take the pin of a layer away; the layer stays until it is released or collected.

        Raises:
            LayerDoesNotExist: there is neither a pin nor a layer of this name.
        """
        self._check_writable()
        name = _parse_chain_id(chain_id)
        if name not in self._pins and not self.db.has_layer(name):
            raise LayerDoesNotExist(f"there is no layer {name} in {self.root}, and no pin of it")
        self._pins.remove(name)

    def pins(self) -> set[ChainID]:
        """The chain IDs that are pinned."""
        self._check_open()
        return set(self._pins)

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
        self._check_writable()
        check_mount_name(name)
        self._lost.require()
        with ExitStack() as stack:
            stack.enter_context(self._locks.exclusive(self._name_key(name)))
            below = stack.enter_context(self._below(parent))
            writable.create(
                self._catalog,
                self.db,
                self.driver,
                name,
                below,
                mount_label=mount_label,
                storage_opt=dict(storage_opt or {}),
                init=init,
                flush=stack.enter_context(self._intake.flushing()),
            )
            return self._hold_mount(name)

    def get_rw_layer(self, name: str) -> RWLayer:
        """A handle to a writable layer: one reference.

        Raises:
            MountDoesNotExist: there is none of this name.
            IntegrityError: its record is damaged.
        """
        self._check_open()
        check_mount_name(name)
        with self._locks.exclusive(self._name_key(name)):
            return self._hold_mount(name)

    def rw_layers(self) -> list[str]:
        """The names of all writable layers, sorted."""
        self._check_open()
        return sorted(self._catalog.mounts())

    def mount_id(self, name: str) -> str:
        """The driver's ID of a writable layer.

        Raises:
            MountDoesNotExist: there is none of this name.
        """
        self._check_open()
        check_mount_name(name)
        node = self._catalog.find_mount(name)
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
        self._check_writable()
        check_type(rw, RWLayer, "a handle to a writable layer, as create_rw_layer and get_rw_layer give it")
        with self._locks.exclusive(self._name_key(rw.name)):
            node = rw._live
            self._let_go_rw(rw)
            with self._locks.sole(node.lock_key) as alone:
                if node.handles or not alone:
                    return []
                try:
                    writable.delete(self._catalog, self.db, self.driver, node)
                except BaseException:
                    if self.db.has_mount(rw.name):
                        self._catalog.retake(node, rw)
                    raise
        try:
            return delete_unheld(self._catalog, self.db, self.driver, node.parent) if node.parent else []
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
        return self._intake.max_depth

    @property
    def read_only(self) -> bool:
        """Whether nothing is to be changed, or can be."""
        return self._read_only or not self._locks.writable

    @property
    def load_problems(self) -> list[Problem]:
        """Layers and writable layers that cannot be loaded, each with file and reason."""
        self._check_open()
        return self._catalog.problems()

    def driver_status(self) -> list[tuple[str, str]]:
        """The driver's diagnostic fields."""
        self._check_open()
        return self.driver.status()

    def cleanup(self) -> None:
        """Finish deletions that were cut short, drop what dead processes left, and let the driver tidy up.

        What cannot be finished is logged, and left for the next time.
        """
        self._check_writable()
        recover(self.db, self.driver)
        self.driver.cleanup()

    def holders(self, chain_id: str | Layer) -> list[str]:
        """What holds a layer, in words, for a person.

        Raises:
            LayerDoesNotExist: there is no such layer.
        """
        self._check_open()
        node = self._catalog.find_layer(_parse_chain_id(chain_id))
        if node is None:
            raise self._no_layer(chain_id)
        return self._catalog.holders(node)

    def unreadable(self) -> list[BadRecord]:
        """What cannot be read, and may refer to any layer: as long as there is something, no layer is deleted."""
        self._check_open()
        return self._catalog.unreadable()

    def unheld_layers(self, *, ignore_unreadable: bool = False) -> list[Layer]:
        """Views of the layers that nothing holds, and of those that nothing else than they hold; children first.

        Args:
            ignore_unreadable: also those that what cannot be read may hold.
        """
        self._check_open()
        unheld = unheld_closure(self._catalog, ignore_unreadable=ignore_unreadable)
        return [Layer(self, node, holds=False) for node in unheld]

    def collect(self, layer: Layer) -> list[RemovedLayer]:
        """Delete a layer if nothing holds it by now, and its parents in turn; answer and errors as `release`."""
        self._check_writable()
        check_type(layer, Layer, "a layer, as unheld_layers gives it")
        return delete_unheld(self._catalog, self.db, self.driver, layer._node)

    @contextmanager
    def changing_images(self) -> Iterator[ImageDB]:
        """A block around changes to the image records: one thread of one process at a time. Not to be nested.

        Yields:
            The records. A new image's topmost layer is to be held until its record is written.
        """
        self._check_writable()
        with self._locks.exclusive(self._images_key):
            self._locks.advance(Counter.IMAGES)
            yield self.image_db

    @contextmanager
    def keeping_records(self) -> Iterator[None]:
        """A block in which no process commits, moves or deletes a record; for a moment only. Not to be nested."""
        self._check_open()
        with self._locks.exclusive("records"):
            yield

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """A block in which no process changes the records of layers and images, after which all are read anew.

        Not to be nested.
        """
        self._check_open()
        with self._locks.exclusive(self._images_key), self._catalog.lock, self._locks.exclusive("records"):
            self._catalog.look_again()
            yield

    def flushing(self) -> AbstractContextManager[Callable[[], None]]:
        """Open the file systems of the root; the block's function gets to disk what was written in the block.

        Call the function before a record that speaks of those writes is committed. The file systems are opened
        first, so that syncfs(2) reports every write error since. Without durability the function does nothing.
        """
        return self._intake.flushing()

    @contextmanager
    def changing_records(self) -> Iterator[LayerDB]:
        """A block that repairs records: no process commits, moves or deletes one meanwhile. Not to be nested.

        Afterwards this store and other processes read the records again.
        """
        self._check_writable()
        with self._catalog.lock:
            try:
                with self._catalog.changing():
                    yield self.db
            finally:
                self._catalog.look_again()

    def scratch_directory(self) -> Path:
        """Where temporary files go; they have no names there, or go with the operation."""
        return self._intake.scratch_directory()

    @property
    def limits(self) -> Limits:
        """How much of untrusted input is taken in."""
        return self._intake.limits

    # What handles and operations share

    def _check_open(self) -> None:
        if self._closed:
            raise LayerStoreError(f"the store {self.root} is closed")
        self._locks.check_own()

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise ReadOnlyStore(f"the store {self.root} was opened for reading only")

    @cached_property
    def _intake(self) -> Intake:
        # To load what takes layers in takes as long as to load all else, and reading needs none of it.
        from layerstore_core.store.intake import Intake

        return Intake(self.config, self.db, self.driver, self._catalog, self._locks, self._hold)

    @contextmanager
    def _below(self, parent: object) -> Iterator[LayerNode | None]:
        """A layer to stand on, held for the length of a block; `None` for `""`."""
        chain_id = parent_in(parent)
        if not chain_id:
            yield None
            return
        with self.get(chain_id) as layer:
            yield layer._live

    def _hold(self, name: ChainID) -> Layer | None:
        return cast("Layer | None", self._catalog.hold_layer(name, lambda node: Layer(self, node, holds=True)))

    def _hold_mount(self, name: str) -> RWLayer:
        """A handle to a writable layer, whose name the caller has exclusively: it is not being deleted."""
        handle = self._catalog.hold_mount(name, lambda node: RWLayer(self, node))
        if handle is None:
            raise self._no_mount(name)
        return cast("RWLayer", handle)

    def _let_go(self, layer: Layer) -> None:
        check_type(layer, Layer, "a handle to a layer, as get and register give it")
        if layer._store is not self or not self._catalog.let_go(layer._node, layer):
            what = "was released before" if layer._holds else "is a view, and holds nothing"
            if layer._store is not self:
                what = f"is another store's, {layer._store.root}"
            raise LayerNotRetained(f"this handle to layer {layer.chain_id} {what}")

    def _let_go_rw(self, rw: RWLayer) -> None:
        if rw._store is not self or not self._catalog.let_go(rw._node, rw):
            what = "was released before" if rw._store is self else f"is another store's, {rw._store.root}"
            raise LayerNotRetained(f"this handle to the writable layer {rw.name!r} {what}")

    def _give_back(self, node: LayerNode | MountNode, handle: Layer | RWLayer) -> None:
        """Give a handle back, unless it was; in a forked child, whose handles these are not, do nothing."""
        if not self._locks.inherited:
            self._catalog.let_go(node, handle)

    def _diff(self, layer_id: str, parent_id: str, tars_of: LayerNode | None) -> BinaryIO:
        if self.config.commit_owner == "disk":
            return self.driver.diff(layer_id, parent_id)
        from layerstore_core.store.export import diff_of

        return diff_of(self.db, self.driver, (layer_id, parent_id), tars_of, self.config.id_mapping)

    def _tar_stream(self, node: LayerNode) -> BinaryIO:
        from layerstore_core.store.export import tar_stream

        return tar_stream(self.db, self.driver, node)

    def _copy_tar(
        self,
        node: LayerNode,
        write: Callable[[bytes | memoryview], object],
        *,
        in_thread: bool,
        progress: Callable[[int], object] | None,
    ) -> int:
        from layerstore_core.store.export import copy_tar

        return copy_tar(self.db, self.driver, node, write, in_thread=in_thread, progress=progress)

    def _tar_size(self, node: LayerNode) -> int:
        from layerstore_core.store.export import tar_size

        return tar_size(self.db, self.driver, node)

    def _apply_to(
        self, layer_id: str, parent_id: str, stream: BinaryIO | str | os.PathLike[str], *, allow_empty: bool
    ) -> int:
        self._check_writable()
        return self._intake.apply(layer_id, parent_id, stream, allow_empty=allow_empty)

    @property
    def _images_key(self) -> str:
        return f"images {self.driver.name}"

    def _version_of_images(self) -> int:
        """See `ReferenceReader`: as long as another process is at the image records, nothing is certain to hold."""
        version = self._locks.generation(Counter.IMAGES)
        return UNKNOWN_VERSION if self._locks.is_exclusive_elsewhere(self._images_key) else version

    def _name_key(self, name: str) -> str:
        return f"name {self.driver.name} {name}"

    def _no_layer(self, layer: str | Layer) -> LayerDoesNotExist:
        return LayerDoesNotExist(
            f"there is no layer {chain_id_in(layer)} in {self.root}; `layerstore ls` lists those there are"
        )

    def _no_mount(self, name: str) -> MountDoesNotExist:
        return MountDoesNotExist(
            f"there is no writable layer {name!r} in {self.root}; `layerstore rw ls` lists those there are"
        )


def _warn(problem: Problem) -> None:
    logger.warning("{}: not loaded: {}", problem.path, problem.reason)


def _parse_chain_id(layer: object) -> ChainID:
    try:
        return ChainID(chain_id_in(layer))
    except ValueError as error:
        raise LayerDoesNotExist(f"{error}; `layerstore ls` lists the chain IDs there are") from error
