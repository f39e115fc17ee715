"""From a driver's name to a driver that the store can call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from layerstore_core.driver import registry
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.driver.options import context_of, warn_of_unknown_drivers
from layerstore_core.driver.prior import chosen_drivers
from layerstore_core.driver.probe import ask_driver
from layerstore_core.driver.registry import DriverFactory
from layerstore_core.driver.select import select_driver
from layerstore_core.errors import (
    AmbiguousDriver,
    DriverContractError,
    DriverNotFound,
    DriverNotSupported,
    LayerStoreError,
)
from layerstore_core.locking.root_locks import RootLocks
from layerstore_core.records.own_state import state_directory

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig


def open_driver(config: StoreConfig, locks: RootLocks) -> BoundDriver:
    """Choose the driver, and make the instance of it that one store uses.

    Raises:
        DriverNotFound: it is not installed, or cannot be imported.
        DriverNotSupported: it cannot work here.
        AmbiguousDriver: several would have to be used.
        ConfigError: an option is unknown to it, or cannot be used.
        DriverContractError: it does not keep the contract.
        OSError: it could not make its home.
    """
    warn_of_unknown_drivers(config)
    name = select_driver(config)
    try:
        return bind_driver(registry.load_driver(name), name, config, locks, registry.load_wrappers())
    except DriverNotSupported as error:
        if config.driver is None and chosen_drivers(config.root):
            error.add_note(f"{config.root} holds the state of driver {name!r}; no other is taken unless it is named")
        raise


def check_driver(config: StoreConfig) -> None:
    """Raise what `open_driver` would, as far as it can be known before anything is made under the root.

    Raises:
        DriverNotFound, DriverNotSupported, AmbiguousDriver, ConfigError, DriverContractError, OSError: as `open_driver`.
    """
    ask_driver(select_driver(config), config)


def check_options(config: StoreConfig) -> None:
    """Validate the options of the driver that a new store would get, if there is one.

    Raises:
        ConfigError: an option is unknown to it, or cannot be used.
        DriverContractError: it does not keep the contract.
    """
    if not config.drivers:
        return
    try:
        name = select_driver(config)
        factory = registry.load_driver(name)
    except (DriverNotFound, DriverNotSupported, AmbiguousDriver):
        return
    context_of(factory, name, config)


def bind_driver(
    factory: DriverFactory,
    name: str,
    config: StoreConfig,
    locks: RootLocks,
    wrappers: Iterable[tuple[str, object]] = (),
) -> BoundDriver:
    """Make an instance of a driver, which need not be an installed one.

    Args:
        factory: the driver's class, or a function that makes one.
        name: its name; what the driver itself declares goes before.
        config: the root, and the driver's options.
        locks: the locks of the root.
        wrappers: plugins that stand around the driver, by name.

    Raises:
        DriverNotSupported, ConfigError, DriverContractError, OSError: as `open_driver`.
    """
    on_disk = registry.driver_name(factory, name)
    context = replace(context_of(factory, name, config), read_only=not locks.writable)
    try:
        instance = factory(context)
    except (LayerStoreError, OSError) as error:
        error.add_note(f"while starting driver {on_disk}")
        raise
    except Exception as error:
        raise DriverContractError(f"driver {on_disk} failed to start: {type(error).__name__}: {error}") from error
    return BoundDriver(
        on_disk,
        instance,
        context,
        locks=locks,
        mounts_directory=state_directory(config.root, "mounts", on_disk),
        wrappers=wrappers,
    )
