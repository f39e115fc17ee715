"""The choice of a store's driver.

The first of these that names a driver decides:

1. the settings: argument, environment, configuration file;
2. the state under the root: a store keeps the driver that it was made with, even if others are installed
   (`driver.prior`). The state of several drivers is an error that names them. It is also an error if the driver is not
   installed, or does not work;
3. the priority of the installed drivers: the first that works here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layerstore_core.config.sources import ANY_DRIVER
from layerstore_core.driver import registry
from layerstore_core.driver.prior import chosen_drivers
from layerstore_core.errors import AmbiguousDriver, DriverNotFound, DriverNotSupported, LayerStoreError
from layerstore_core.log import logger

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig


def select_driver(config: StoreConfig) -> str:
    """Return the driver to use, by the name of its entry point.

    Raises:
        AmbiguousDriver: the root has the state of several drivers.
        ConfigError: the driver next in the order of priority cannot use an option that was given.
        DriverNotFound: the driver whose state is under the root is not installed, or no driver is installed.
        DriverNotSupported: no installed driver works here.
    """
    if config.driver is not None:
        return config.driver
    prior = chosen_drivers(config.root)
    if len(prior) > 1:
        raise AmbiguousDriver(
            f"{config.root} has the state of several drivers: {', '.join(prior)}; name the one to use "
            "(--driver, LAYERSTORE_DRIVER, or driver in the configuration file)"
        )
    if prior:
        return _require(prior[0], config.root)
    return _first_that_works(config)


def _require(name: str, root: Path) -> str:
    try:
        return registry.entry_point_of(name)
    except DriverNotFound as error:
        raise DriverNotFound(
            f"{root} has the state of driver {name!r}, which cannot be used: {error}. To use another driver in the "
            "same root, name that driver"
        ) from error


def _first_that_works(config: StoreConfig) -> str:
    names = names_by_priority(config)
    if not names:
        raise DriverNotFound(
            "no installed driver may be chosen by priority; name a driver, or install one: "
            "pip install layerstore-driver-vfs"
        )
    from layerstore_core.driver.probe import probe  # lazy: asked only for a new store

    reasons = []
    for name in names:
        result = probe(name, config)
        if result.works:
            logger.info("driver {} is chosen: the first by priority that works under {}", name, config.root)
            return name
        if result.error is not None and (config.options_of(name) or ANY_DRIVER in config.drivers):
            raise result.error  # otherwise a misspelt option would lead to another driver
        reasons.append(f"{name}: {result.reason}")
    raise DriverNotSupported(f"no installed driver works under {config.root}. " + ". ".join(reasons))


def names_by_priority(config: StoreConfig) -> list[str]:
    """Return the drivers that a new store may get without naming one, the first choice first."""
    return list(config.driver_priority) or _by_priority()


def _by_priority() -> list[str]:
    """Return the drivers that have a priority, the highest first. A driver with an alias counts once."""
    ranks: dict[str, tuple[int, str]] = {}
    for name in registry.driver_names():
        try:
            factory = registry.load_driver(name)
            on_disk = registry.driver_name(factory, name)
        except LayerStoreError as error:
            logger.warning("{}", error)
            continue
        value = registry.priority(factory)
        if value is not None and (on_disk not in ranks or name == on_disk):
            ranks[on_disk] = (-value, name)
    return [name for _, name in sorted(ranks.values())]
