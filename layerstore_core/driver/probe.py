"""Asking a driver whether it works somewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layerstore_core.driver.options import context_of
from layerstore_core.driver.registry import load_driver
from layerstore_core.errors import ConfigError, DriverContractError, LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a driver works somewhere.

    Attributes:
        works: whether it does.
        reason: why not; empty where it does.
        error: the error, where the reason is an option of the driver.
    """

    works: bool
    reason: str = ""
    error: ConfigError | None = None


def ask_driver(name: str, config: StoreConfig) -> None:
    """Ask a driver whether it works under a root with its options; it leaves nothing there.

    Raises:
        DriverNotFound, AmbiguousDriver: as `load_driver`.
        DriverNotSupported: it does not.
        ConfigError: an option is unknown to it, or cannot be used.
        DriverContractError: it does not keep the contract.
        OSError: the system refuses.
    """
    factory = load_driver(name)
    context = context_of(factory, name, config)
    ask = getattr(factory, "probe", None)
    if ask is not None:
        try:
            ask(context)
        except (LayerStoreError, OSError):
            raise
        except Exception as error:  # third-party code may fail in any way
            raise DriverContractError(f"driver {name}: its probe failed: {type(error).__name__}: {error}") from error


def probe(name: str, where: StoreConfig | Path) -> Probe:
    """Find out whether a driver would work, and leave nothing behind.

    Args:
        name: the driver's.
        where: the root, and the options of drivers; a root alone stands for the usual settings.
    """
    if isinstance(where, Path):
        from layerstore_core.config.model import StoreConfig

        where = StoreConfig(root=where)
    try:
        ask_driver(name, where)
    except (LayerStoreError, OSError) as error:
        return Probe(False, str(error), error if isinstance(error, ConfigError) else None)
    return Probe(True)
