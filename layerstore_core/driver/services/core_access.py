"""What a driver may ask the core to do for it: counted mounts of other layers, and locks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerstore_core.errors import DriverContractError

if TYPE_CHECKING:
    from layerstore_core.driver.mounts import MountCounts
    from layerstore_core.locking.root_locks import RootLocks


@dataclass(frozen=True, slots=True)
class _Bound:
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

    `DriverContext` has the methods for drivers, which say what holds for them.
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
