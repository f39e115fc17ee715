"""Open the driver that a store uses: choose it, create its instance, and bind the instance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from layerstore_core.driver import registry
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.driver.options import context_of, warn_of_unknown_drivers
from layerstore_core.driver.prior import chosen_drivers
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
    """Choose the driver of a store, and create the instance that the store uses.

    Raises:
        DriverNotFound: the driver is not installed, or cannot be imported.
        DriverNotSupported: the driver cannot work here.
        AmbiguousDriver: several drivers have state here.
        ConfigError: the driver does not know an option, or an option has an invalid value.
        DriverContractError: the driver does not follow the contract.
        OSError: the driver could not create its home.
    """
    warn_of_unknown_drivers(config)
    name = select_driver(config)
    try:
        return bind_driver(registry.load_driver(name), name, config, locks, registry.load_wrappers())
    except DriverNotSupported as error:
        if config.driver is None and chosen_drivers(config.root):
            error.add_note(
                f"{config.root} has the state of driver {name!r}; another driver is used only if you name it"
            )
        raise


def check_driver(config: StoreConfig) -> None:
    """Raise the errors of `open_driver` that can be found before anything is created under the root.

    Raises:
        DriverNotFound, DriverNotSupported, AmbiguousDriver, ConfigError, DriverContractError, OSError: as for
            `open_driver`.
    """
    from layerstore_core.driver.probe import ask_driver  # lazy: asked before a new store is made

    ask_driver(select_driver(config), config)


def check_options(config: StoreConfig) -> None:
    """Validate the options of the driver that a store would use, if a driver can be found.

    Raises:
        ConfigError: the driver does not know an option, or an option has an invalid value.
        DriverContractError: the driver does not follow the contract.
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
    """Create an instance of a driver. The driver need not be an installed one.

    Args:
        factory: the driver's class, or a function that returns a driver.
        name: the driver's name. A `driver_name` that the driver declares takes precedence.
        config: the root, and the driver's options.
        locks: the locks of the root.
        wrappers: plugins that wrap the driver's hooks, each with its name.

    Raises:
        DriverNotSupported, ConfigError, DriverContractError, OSError: as for `open_driver`.
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
