"""A driver without a store, for servers that lend it to other programs.

Such a program (a Docker daemon, say) keeps the records of its layers itself. So the driver's home must have no layers
of a store, and no store may take the program's layers for lost ones of its own, and collect them. A note says so:
`<root>/layerstore/lent/<driver>`. It stays when the server ends, since the layers stay too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.driver import registry
from layerstore_core.driver.open import bind_driver
from layerstore_core.driver.options import warn_of_unknown_drivers
from layerstore_core.driver.select import select_driver
from layerstore_core.errors import LayerStoreError, ReadOnlyStore, RootInUse, while_doing
from layerstore_core.locking.docker_lock import docker_was_here
from layerstore_core.locking.root_locks import RootLocks
from layerstore_core.log import logger
from layerstore_core.records.own_state import state_directory

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig
    from layerstore_core.driver.bound import BoundDriver

_NOTE: Final = b"The layers of this driver are those of another program, which keeps their records.\n"


@contextmanager
def open_driver(config: StoreConfig) -> Iterator[BoundDriver]:
    """Open a driver without a store, for the length of a `with` block.

    Its home is `<root>/<driver>`, as a store's. Mounts are counted, and locks between processes are the kernel's, as in
    a store. Mounts of processes that have died are unmounted first, but not those of `get(…, keep=True)`. At the end of
    the block, all mounts are released but the kept ones.

    Args:
        config: the settings: root, driver, options, ID mapping. Without a driver, one is chosen as for a store.

    Raises:
        RootInUse: another process has the driver open in this way, or the root has layers of a store with this driver,
            or it is the data root of a Docker daemon.
        ReadOnlyStore: the root cannot be written.
        DriverNotFound, DriverNotSupported, AmbiguousDriver, ConfigError, DriverContractError: the driver cannot be
            used; see `LayerStore.open`.
        OSError: the root cannot be written, or the driver could not create its home.
    """
    inside.guard(config.root)
    warn_of_unknown_drivers(config)
    name = select_driver(config)
    factory = registry.load_driver(name)
    on_disk = registry.driver_name(factory, name)
    _refuse_stores(config.root, on_disk)
    # The layers may be for users who have to enter this directory.
    make_directory(config.root, 0o711)
    with ExitStack() as opened:
        locks = RootLocks(config.root / "layerstore" / "locks")
        opened.callback(locks.close)
        if not locks.writable:
            raise ReadOnlyStore(f"{config.root} cannot be written, so driver {on_disk} cannot keep layers there")
        if not opened.enter_context(locks.lock_references(f"lent {on_disk}")):
            raise RootInUse(
                f"another process serves the layers of driver {on_disk} in {config.root}; stop it first, or name "
                "another root"
            )
        with locks.lock_references(_stores(on_disk)) as alone:
            if not alone:
                raise RootInUse(f"a store with driver {on_disk} is open in {config.root}; name another root")
            _refuse_stores(config.root, on_disk)
            driver = bind_driver(factory, name, config, locks, registry.load_wrappers())
            opened.callback(driver.close)
            _lend(config.root, on_disk)
        for layer_id in driver.stale_mounts():
            try:
                driver.unmount_stale(layer_id)
            except (LayerStoreError, OSError) as error:
                logger.warning("layer {} of driver {} stays mounted: {}", layer_id, on_disk, error)
        yield driver


def is_lent(root: Path, driver: str) -> bool:
    """Return whether the layers of a driver in a root belong to another program, which keeps their records.

    Args:
        root: the root.
        driver: the driver's name on disk.
    """
    return inside.exists(_note(root, driver))


def refuse_lent(root: Path, driver: str, locks: RootLocks) -> None:
    """Refuse a driver's home for a store if its layers belong to another program. Otherwise it is not lent from now on.

    Args:
        root: the root.
        driver: the driver's name on disk.
        locks: the store's locks. They have a reference afterwards, as long as the store is open.

    Raises:
        RootInUse: the layers belong to another program.
    """
    locks.acquire(_stores(driver))
    if is_lent(root, driver):
        raise RootInUse(
            f"the layers of driver {driver} in {root} belong to another program, such as a Docker daemon, which keeps "
            f"their records: they can be read here, but not changed. Name another root; or, if that program no longer "
            f"needs them, remove {_note(root, driver)}"
        )


def _stores(driver: str) -> str:
    """Return the key to which each open store with a driver refers."""
    return f"store of {driver}"


def _note(root: Path, driver: str) -> Path:
    return state_directory(root, "lent", driver)


def _lend(root: Path, driver: str) -> None:
    note = _note(root, driver)
    if not inside.exists(note):
        with while_doing(f"noting in {note} that the layers belong to another program"):
            make_directory(note.parent, 0o700, durable=True)
            inside.write(note, _NOTE, 0o644)
            inside.flush(note.parent)


def _refuse_stores(root: Path, driver: str) -> None:
    if docker_was_here(root):
        raise RootInUse(f"{root} is the data root of a Docker daemon; name a directory of its own for driver {driver}")
    if inside.has_entries(snapshots := state_directory(root, "snapshots", driver)):
        raise RootInUse(
            f"{root} has an engine's snapshots with driver {driver}, whose records are in {snapshots}; name another "
            "root"
        )
    records = root / "image" / driver / "layerdb"
    if any(inside.has_entries(records / part) for part in ("sha256", "mounts")):
        raise RootInUse(
            f"{root} has a store's layers of driver {driver}, whose records are in {records}; name another root"
        )
