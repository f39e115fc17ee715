"""Probe whether a driver works under a root."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from layerstore_core.driver.options import context_of
from layerstore_core.driver.registry import load_driver
from layerstore_core.errors import ConfigError, DriverContractError, LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig


class Probe(NamedTuple):
    """The result of a probe.

    Attributes:
        works: whether the driver works.
        reason: why it does not work. Empty if it does.
        error: the error, if the reason is an option of the driver.
    """

    works: bool
    reason: str = ""
    error: ConfigError | None = None


def ask_driver(name: str, config: StoreConfig) -> None:
    """Raise an error if a driver does not work under a root with its options. Leave nothing under the root.

    Raises:
        DriverNotFound, AmbiguousDriver: as for `load_driver`.
        DriverNotSupported: the driver does not work.
        ConfigError: the driver does not know an option, or an option has an invalid value.
        DriverContractError: the driver does not follow the contract.
        OSError: a system call of the probe failed.
    """
    factory = load_driver(name)
    context = context_of(factory, name, config)
    ask = getattr(factory, "probe", None)
    if ask is not None:
        try:
            ask(context)
        except (LayerStoreError, OSError):
            raise
        except Exception as error:  # third-party code may raise anything
            raise DriverContractError(f"driver {name}: its probe failed: {type(error).__name__}: {error}") from error


def probe(name: str, where: StoreConfig | Path) -> Probe:
    """Return whether a driver would work under a root. Leave nothing under the root.

    Args:
        name: the driver's name.
        where: the root and the options of drivers. A path is a root with the usual settings.
    """
    if isinstance(where, Path):
        from layerstore_core.config.model import StoreConfig

        where = StoreConfig(root=where)
    try:
        ask_driver(name, where)
    except (LayerStoreError, OSError) as error:
        return Probe(False, str(error), error if isinstance(error, ConfigError) else None)
    return Probe(True)
