"""The context that a driver is created with, and what a driver may ask the core to do: counted mounts, and locks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from layerstore_core.base import inside
from layerstore_core.errors import DriverContractError
from layerstore_core.tree.idmap import IDMapping

if TYPE_CHECKING:
    from loguru import Logger

    from layerstore_core.driver.mounts import MountCounts
    from layerstore_core.locking.root_locks import RootLocks


class _Bound(NamedTuple):
    """What a driver is bound to.

    Attributes:
        driver: the driver's name on disk.
        mounts: its counted mounts.
        locks: the locks of the root.
        mount: mounts a layer for the length of a `with` block, counted.
    """

    driver: str
    mounts: MountCounts
    locks: RootLocks
    mount: Callable[[str, str], AbstractContextManager[str]]


class CoreAccess:
    """Access of one driver to the core, from when the driver is bound until it is closed.

    `DriverContext.mounted` and `DriverContext.lock` say what holds for its methods.
    """

    def __init__(self) -> None:
        self._bound: _Bound | None = None
        self._thread = threading.local()

    def bind(
        self,
        driver: str,
        mounts: MountCounts,
        locks: RootLocks,
        mount: Callable[[str, str], AbstractContextManager[str]],
    ) -> None:
        """Begin: the driver's instance exists, and its hooks may be called. Arguments as the attributes of `_Bound`."""
        self._bound = _Bound(driver, mounts, locks, mount)

    def unbind(self, mounts: MountCounts) -> None:
        """End what `bind` has begun with these mounts."""
        if self._bound is not None and self._bound.mounts is mounts:
            self._bound = None

    @contextmanager
    def mounted(self, layer_id: str, mount_label: str) -> Iterator[str]:
        """See `DriverContext.mounted`."""
        bound = self._get_bound("mounted")
        if bound.mounts.is_locked_here(layer_id):
            raise DriverContractError(
                f"driver {bound.driver}: a hook that mounts, unmounts, seals, repairs or removes layer {layer_id} asks "
                "for a mount of the same layer, and would wait for itself; context.mounted is for its ancestors there"
            )
        if held := self._names():
            raise DriverContractError(
                f"driver {bound.driver}: context.mounted is used in a block of context.lock({held[-1]!r}), where it "
                "could wait for ever; mount first, and lock in the block of the mount"
            )
        with bound.mount(layer_id, mount_label) as path:
            yield path

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """See `DriverContext.lock`."""
        bound = self._get_bound("lock")
        if not name:
            raise DriverContractError(f"driver {bound.driver}: a lock is named by a text, not by {name!r}")
        names = self._names()
        if name in names:
            yield
            return
        if names and name < names[-1]:
            raise DriverContractError(
                f"driver {bound.driver}: context.lock({name!r}) is used in a block of context.lock({names[-1]!r}), "
                "where it could wait for ever; locks are taken in the order of their names"
            )
        with bound.locks.exclusive(f"of driver {bound.driver}: {name}"):
            names.append(name)
            try:
                yield
            finally:
                names.remove(name)

    def _get_bound(self, what: str) -> _Bound:
        if self._bound is None:
            raise DriverContractError(
                f"context.{what} can be used in a driver's hooks, while its store is open: not in its constructor, not "
                "in probe, and not after the store is closed"
            )
        return self._bound

    def _names(self) -> list[str]:
        """Return the names of the locks that this thread has."""
        names: list[str] | None = getattr(self._thread, "names", None)
        if names is None:
            names = self._thread.names = []
        return names


@dataclass(frozen=True)
class DriverContext:
    """The directory, options and settings of one driver instance.

    Attributes:
        home: the driver's own directory, `<root>/<driver name>`. The driver creates it.
        options: the driver's options. For a driver class with an `Options` model (a pydantic `BaseModel`) this is a
            validated instance of the model. It is an empty mapping if the class only names its model and no options
            were given.
        id_mapping: how user and group IDs in layers correspond to IDs on disk.
        logger: loguru's logger, bound with `driver=<name>`.
        read_only: the store was opened for reading, or its root cannot be written. The driver must write nothing.
    """

    home: Path
    logger: Logger
    options: Any = field(default_factory=dict)
    id_mapping: IDMapping = field(default_factory=IDMapping)
    read_only: bool = False
    #: A `CoreAccess`, which is no public type. Copies of a context share it.
    _core: Any = field(default_factory=CoreAccess, repr=False, compare=False)

    def __post_init__(self) -> None:
        inside.guard(self.home.parent)

    def nearest_directory(self) -> Path:
        """Return `home` or its nearest existing ancestor, where a probe can make its trials."""
        directory = self.home
        while not inside.is_directory(directory) and directory != self.home.parent:
            directory = directory.parent
        while not directory.is_dir():
            directory = directory.parent
        return directory

    def core_access(self) -> CoreAccess:
        """Return what `mounted` and `lock` use, for the core to bind it."""
        core: CoreAccess = self._core
        return core

    def mounted(self, layer_id: str, mount_label: str = "") -> AbstractContextManager[str]:
        """Mount another layer for the length of a `with` block. The block gets the path of its tree.

        Users of the mount are counted, across threads and processes, and this block is one of them: the driver's `get`
        is called before the first, and its `put` after the last. A driver that called its own `put` would unmount the
        layer under another user.

        It is for hooks, which may be called from several threads. Blocks may be nested, also those of one layer. While
        `get`, `put`, `mounts`, `seal`, `repair_layer` or `remove` of a layer runs, the core has a lock on that layer.
        So these hooks may mount ancestors of their layer only: two that mounted each other's would wait for ever.
        For their own layer the error says so. The other hooks may mount any layer. What keeps a layer mounted beyond a
        hook is the store's `get`, not this: the block ends in the hook that began it.

        Args:
            layer_id: the layer. It is another one than that of the hook, or the hook is none of the six above.
            mount_label: as of the hook `get`.

        Raises:
            DriverContractError: the driver is not bound yet (in its constructor, in `probe`) or closed; or the call
                would wait for itself: in a hook that has a lock on this very layer, or in a block of `lock`.
            FileNotFoundError: there is no such layer.
        """
        return self.core_access().mounted(layer_id, mount_label)

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Take a lock of this driver for the length of a `with` block: wait until no thread or process has it.

        It is a lock of the kernel, on the lock file of the root. If the process dies, the lock ends. It excludes all
        other threads and processes that use this driver in this root, and has nothing to do with other drivers. If the
        root cannot be written (`read_only`), it excludes the threads of this store only.

        A thread may take a lock again that it has; the lock ends with the outer block. Several locks are taken in the
        order of their names, as Python compares texts: otherwise two threads could wait for each other, and the second
        name is refused. A block must not use `mounted`, nor wait for another thread that may need the lock.

        Args:
            name: the lock's name, which the driver chooses: any text but the empty one.

        Raises:
            DriverContractError: the driver is not bound yet (in its constructor, in `probe`) or closed; or the name is
                out of order.
            LayerStoreError: this process was forked from the one that opened the store.
            OSError: the lock file cannot be locked.
        """
        return self.core_access().lock(name)


StorageOpt = Mapping[str, str]
"""The options of one layer, by name."""
