"""The rig in which a test uses one driver: its own root, layers by one call, and a check of what is left."""

from __future__ import annotations

import gc
import io
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final, Literal, Self

from layerstore_core.config.model import StoreConfig
from layerstore_core.conformance.leftovers import mounts_below, removal, remove_root
from layerstore_core.conformance.properties import COULD_DECLARE, NOT_TRIED, NOTE
from layerstore_core.conformance.tars import Item, tar_of
from layerstore_core.conformance.trees import Tree, read_tree
from layerstore_core.driver import registry
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.driver.open import bind_driver
from layerstore_core.driver.registry import DriverFactory
from layerstore_core.errors import LayerStoreError
from layerstore_core.locking.root_locks import RootLocks
from layerstore_core.store.open import make_context
from layerstore_core.store.store import LayerStore
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner

_CHUNK: Final = 1 << 20
#: Whether a store flushes what it commits.
Durability = Literal["full", "none"]
#: The name of a wrapper in the plugin manager, and the wrapper.
Wrapper = tuple[str, object]


class DriverRig:
    """One driver on one new root.

    Args:
        name: the driver's name.
        factory: the driver's class, or a function that returns a driver. `None`: the installed driver of this name.
        options: the driver's options.
        root: a directory that does not exist yet, on the file system that the driver needs.
        report: called with the kind of a fact for the report (`NOTE`, `NOT_TRIED`, …) and the fact.
        settings: further settings of the store, as `StoreConfig` has them.

    Attributes:
        driver: the driver, opened on the root.
        examples: the number of cases that a test with many of them tries. 0: the test's own choice.
    """

    def __init__(
        self,
        name: str,
        factory: DriverFactory | None,
        options: Mapping[str, Any],
        root: Path,
        report: Callable[[str, str], None] = lambda *_: None,
        *,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.name: Final = name
        self.factory: Final = factory if factory is not None else registry.load_driver(name)
        self.options: Final = dict(options)
        self.root: Final = root
        self.report: Final = report
        #: The hooks that were called, in the order of their first calls.
        self.called: Final[dict[str, None]] = {}
        self.is_root: Final = os.geteuid() == 0
        self.examples = 0
        self._settings = settings
        self._layers: list[str] = []
        self._kept = False
        self._opened: list[tuple[BoundDriver, RootLocks]] = []
        root.mkdir(parents=True)
        try:
            self.driver = self.open()
        except BaseException:
            remove_root(root)
            raise

    # Instances

    def config(self, root: Path | None = None, *, durability: Durability = "none") -> StoreConfig:
        """Return the settings of a store on this root, or another, with this driver and its options."""
        return StoreConfig(
            root=root or self.root,
            driver=self.name,
            drivers={self.name: self.options} if self.options else {},
            durability=durability,
            **self._settings,
        )

    def open(self, *wrappers: Wrapper, read_only: bool = False) -> BoundDriver:
        """Open another instance of the driver on the same root, as another process would.

        Args:
            wrappers: plugins around the driver's hooks.
            read_only: whether the instance may write nothing.
        """
        locks = RootLocks(self.root / "layerstore" / "locks", read_only=read_only)
        try:
            driver = bind_driver(self.factory, self.name, self.config(), locks, wrappers)
        except BaseException:
            locks.close()
            raise
        self._watch_calls(driver)
        self._opened.append((driver, locks))
        return driver

    def _watch_calls(self, driver: BoundDriver) -> None:
        driver.plugins.add_hookcall_monitoring(lambda name, *_: self.called.setdefault(name), lambda *_: None)

    def reopen(self) -> BoundDriver:
        """Close all instances, and open a new one, as if one process has ended and another begins."""
        self.close()
        self.driver = self.open()
        return self.driver

    def close(self) -> None:
        """Close all instances, and so unmount all that they have mounted."""
        with ExitStack() as stack:
            for driver, locks in self._opened:
                stack.callback(locks.close)
                stack.callback(driver.close)
            self._opened.clear()

    @contextmanager
    def store(
        self, *wrappers: Wrapper, root: Path | None = None, durability: Durability = "none"
    ) -> Iterator[LayerStore]:
        """Open a store with its own instance of the driver for the length of a `with` block."""
        config = self.config(root, durability=durability)
        locks = RootLocks(config.root / "layerstore" / "locks")
        try:
            driver = bind_driver(self.factory, self.name, config, locks, wrappers)
            self._watch_calls(driver)
            store = LayerStore(make_context(config, driver, locks))
        except BaseException:
            locks.close()
            raise
        with store:
            yield store

    # The report

    def note(self, text: str) -> None:
        """Add a fact for the reader of the report."""
        self.report(NOTE, text)

    def not_tried(self, reason: str) -> None:
        """Say what the test leaves out, and why: if nothing fails, it counts as "not tried", and not as passed.

        A test that leaves out all calls `pytest.skip`.
        """
        self.report(NOT_TRIED, reason)

    def could_declare(self, capability: str, because: str) -> None:
        """Name a capability that the driver has shown, and does not declare."""
        self.report(COULD_DECLARE, f"{capability}: {because}")

    # Layers

    def new_id(self, suffix: str = "") -> str:
        """Return a new ID of the store's form. A layer of this ID is removed at the end."""
        layer_id = secrets.token_hex(32) + suffix
        self._layers.append(layer_id)
        return layer_id

    def layer(self, content: bytes | Iterable[Item] = (), parent: str = "", *, layer_id: str = "") -> str:
        """Create a read-only layer, and return its ID.

        Args:
            content: the layer's tar, or the tar's items.
            parent: the ID of the parent, `""` for none.
            layer_id: the layer's ID, `""` for a new one.
        """
        layer_id = layer_id or self.new_id()
        self.driver.create(layer_id, parent, {})
        self.apply(layer_id, parent, content)
        return layer_id

    def writable(self, parent: str = "", *, layer_id: str = "") -> str:
        """Create a writable layer, and return its ID."""
        layer_id = layer_id or self.new_id()
        self.driver.create_read_write(layer_id, parent, "", {})
        return layer_id

    def apply(self, layer_id: str, parent: str, content: bytes | Iterable[Item]) -> int:
        """Apply a tar to a new layer, as the store does. Return the size that the driver returns."""
        stream = stream_of(content if isinstance(content, bytes) else tar_of(content))
        size = self.driver.apply_diff(layer_id, parent, stream)
        stream.drain()
        return size

    def tree(self, layer_id: str) -> Tree:
        """Return the files that the layer shows."""
        with self.driver.mounted(layer_id) as path:
            return read_tree(path)

    def diff(self, layer_id: str, parent: str) -> bytes:
        """Return the whole tar of a layer's changes."""
        with self.driver.diff(layer_id, parent) as stream:
            return b"".join(iter(lambda: stream.read(_CHUNK), b""))

    def another(self, name: str, **settings: Any) -> DriverRig:
        """Return a rig of the same driver on another root, a directory of this one.

        Args:
            name: the directory's name.
            settings: further settings of the store.
        """
        return DriverRig(self.name, self.factory, self.options, self.root / name, self.report, settings=settings)

    def forget(self, layer_id: str) -> None:
        """Do not remove this layer at the end."""
        self._layers.remove(layer_id)

    # The driver's internals

    @property
    def instance(self) -> object:
        """The object that the driver's class has made."""
        return self.driver.plugins.get_plugin(f"driver {self.driver.name}")

    def implementation(self, hook: str) -> Callable[..., object] | None:
        """Return the driver's own function for a hook. Return `None` if the fallback answers."""
        for implementation in getattr(self.driver.plugins.hook, hook).get_hookimpls():
            if implementation.plugin_name.startswith("driver "):
                found: Callable[..., object] = implementation.function
                return found
        return None

    def implements(self, hook: str) -> bool:
        """Return whether the driver itself implements this hook, not only the fallback."""
        return self.implementation(hook) is not None

    def layer_ids(self) -> set[str] | None:
        """Return the IDs of the driver's layers. Return `None` if the driver cannot list them."""
        found = self.driver.layer_ids()
        return None if found is None else set(found)

    def mounts(self) -> list[str]:
        """Return the mount points under the root, in the order in which they were mounted."""
        return mounts_below(self.root)

    def open_files(self) -> list[str]:
        """Return the files under the root that this process has open, except the store's own (the lock file)."""
        gc.collect()
        top = os.path.realpath(self.root) + "/"
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
            except FileNotFoundError:
                continue
            if target.startswith(top) and not target.startswith(top + "layerstore/"):
                found.append(target)
        return sorted(found)

    # The end of a test

    def __enter__(self) -> Self:
        return self

    def keep(self) -> str:
        """Leave the root, its layers and its mounts as they are, for somebody to look at. Return how to remove them."""
        self._kept = True
        return removal(self.root)

    def __exit__(self, *exc: object) -> None:
        if self._kept:
            for _, locks in self._opened:
                locks.close()
            return
        try:
            self._remove_layers()
        finally:
            self.close()
            # Python collects objects of a failed call late. Until then their open files keep the file system busy.
            gc.collect()
            remove_root(self.root)

    def _remove_layers(self) -> None:
        """Remove all layers, children first. Otherwise a file system may refuse to delete a driver's layers."""
        left = [*self._layers, *sorted((self.layer_ids() or set()) - set(self._layers))]
        for layer_id in reversed(left):
            try:
                self.driver.remove(layer_id)
            except (OSError, LayerStoreError) as error:
                self.note(f"layer {layer_id[:12]} could not be removed at the end: {error}")


def stream_of(tar: bytes, chunk: int = _CHUNK, await_parents: Callable[[], None] | None = None) -> LayerStream:
    """Return a tar as `apply_diff` gets it, read in pieces of `chunk` bytes."""
    file = io.BytesIO(tar)
    return LayerStream(TarScanner(lambda: file.read(chunk)), await_parents=await_parents)


def read_all(stream: BinaryIO) -> bytes:
    """Read a stream to its end, and close it."""
    with stream:
        return b"".join(iter(lambda: stream.read(_CHUNK), b""))


def file_system_of(directory: Path) -> str:
    """Return the kernel's name of the type of a directory's file system."""
    best = ("", "")
    path = os.path.realpath(directory)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields, _, rest = line.partition(" - ")
            point = fields.split()[4]
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, rest.split()[0])
    return best[1]
