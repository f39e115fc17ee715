"""Which driver a store uses: the first of these that says so.

1. the settings: argument, environment, configuration file;
2. what is under the root: a store stays with the driver that it was made with, whatever else is installed (`prior`).
   Several are an error that names them, and one that is not installed, or does not work, is an error, too;
3. the drivers' order of priority: the first that works here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layerstore_core.config.sources import ANY_DRIVER
from layerstore_core.driver import registry
from layerstore_core.driver.prior import chosen_drivers
from layerstore_core.driver.probe import probe
from layerstore_core.errors import AmbiguousDriver, DriverNotFound, DriverNotSupported, LayerStoreError
from layerstore_core.log import logger

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig


def select_driver(config: StoreConfig) -> str:
    """The driver to use, by the name of its entry point.

    Raises:
        AmbiguousDriver: the root has the states of several drivers.
        ConfigError: an option was given that a driver, which would be chosen by priority, cannot use.
        DriverNotFound: the driver whose state is there is not installed, or no driver is.
        DriverNotSupported: no installed driver works here.
    """
    if config.driver is not None:
        return config.driver
    prior = chosen_drivers(config.root)
    if len(prior) > 1:
        raise AmbiguousDriver(
            f"{config.root} holds the state of several drivers: {', '.join(prior)}; name the one to use "
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
            f"{root} holds the state of driver {name!r}, which cannot be used: {error}. To start with another "
            "driver beside it, name that driver"
        ) from error


def _first_that_works(config: StoreConfig) -> str:
    names = list(config.driver_priority) or _by_priority()
    if not names:
        raise DriverNotFound("no driver is installed that may be chosen by itself; pip install layerstore-driver-vfs")
    reasons = []
    for name in names:
        result = probe(name, config)
        if result.works:
            logger.info("driver {} is chosen: the first by priority that works under {}", name, config.root)
            return name
        if result.error is not None and (config.options_of(name) or ANY_DRIVER in config.drivers):
            raise result.error  # another driver would be taken for a misspelt option
        reasons.append(f"{name}: {result.reason}")
    raise DriverNotSupported(f"no installed driver works under {config.root}. " + ". ".join(reasons))


def _by_priority() -> list[str]:
    """The drivers that may be chosen by themselves, the most wanted first; an alias counts once."""
    wanted: dict[str, tuple[int, str]] = {}
    for driver in registry.installed_drivers():
        try:
            factory = registry.load_driver(driver.name)
            on_disk = registry.driver_name(factory, driver.name)
        except LayerStoreError as error:
            logger.warning("{}", error)
            continue
        value = registry.priority(factory)
        if value is not None and (on_disk not in wanted or driver.name == on_disk):
            wanted[on_disk] = (-value, driver.name)
    return [name for _, name in sorted(wanted.values())]
