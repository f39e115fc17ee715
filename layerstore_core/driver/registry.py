"""The installed drivers and wrappers, found through entry points."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from layerstore_core.base.plugins import DRIVERS, WRAPPERS, entry_point_names, installed_entry_points
from layerstore_core.config.sources import did_you_mean
from layerstore_core.driver.context import DriverContext
from layerstore_core.errors import AmbiguousDriver, DriverContractError, DriverNotFound, LayerStoreError

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint


#: Short of the 64 digits of an ID, and unlike a time: what is called so stands beside directories of drivers (`records/own_state.py`).
_ON_DISK: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}", re.ASCII)
#: What else is under a root.
_TAKEN: Final = ("image", "layerstore")

#: What an entry point leads to: called with a `DriverContext`, it makes a driver.
DriverFactory = Callable[[DriverContext], Any]


@dataclass(frozen=True, slots=True)
class InstalledDriver:
    """A driver that some installed distribution offers.

    Attributes:
        name: the entry point's name.
        distribution: the name of the distribution that offers it.
        version: that distribution's version.
        entry_point: where it is.
    """

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint


def installed_drivers() -> list[InstalledDriver]:
    """All drivers that are offered, sorted by name; none is imported."""
    return sorted((_describe(point) for point in installed_entry_points(DRIVERS)), key=lambda driver: driver.name)


def load_driver(name: str) -> DriverFactory:
    """Import a driver.

    Raises:
        DriverNotFound: no installed package offers it, or the package cannot be imported.
        AmbiguousDriver: several packages offer one of this name.
    """
    found = [point for point in installed_entry_points(DRIVERS) if point.name == name]
    if not found:
        raise _not_installed(name)
    # What a package is called is asked only where it is to be told: its metadata take as long to read as all else here.
    if len(found) > 1 and len({_describe(point).distribution for point in found}) > 1:
        packages = " and ".join(_describe(point).distribution for point in found)
        raise AmbiguousDriver(f"a driver {name!r} comes from {packages}; uninstall all but one of these packages")
    factory = _load(found[0], "driver")
    if not callable(factory):
        raise DriverNotFound(f"driver {name!r}: {found[0].value} is no class and no function")
    return factory  # type: ignore[no-any-return]


def load_wrappers() -> list[tuple[str, object]]:
    """Make the wrapper plugins that are installed, each with its name.

    Raises:
        DriverNotFound: a package cannot be imported.
        DriverContractError: its class cannot be called without arguments.
    """
    wrappers: list[tuple[str, object]] = []
    for point in sorted(installed_entry_points(WRAPPERS), key=lambda point: point.name):
        plugin = _load(point, "wrapper")
        try:
            wrappers.append((point.name, plugin() if isinstance(plugin, type) else plugin))
        except Exception as error:
            raise DriverContractError(
                f"{_name(point, 'wrapper')} cannot be made: {type(error).__name__}: {error}"
            ) from error
    return wrappers


def load_options(reference: str, driver: str) -> type:
    """Import the model of a driver's options.

    Args:
        reference: where it is, `<module>:<class>`, as the driver's `Options` says.
        driver: the driver's name.

    Raises:
        DriverContractError: there is none.
    """
    module, _, name = reference.partition(":")
    try:
        model = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise DriverContractError(
            f"driver {driver}: the model of its options, {reference!r}, cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, type) or not hasattr(model, "model_validate"):
        raise DriverContractError(f"driver {driver}: the model of its options, {reference!r}, is no pydantic model")
    return model


def driver_name(factory: DriverFactory, name: str) -> str:
    """The name that a driver has on disk: what it declares, or its entry point's.

    Raises:
        DriverContractError: directories of a driver cannot be called so.
    """
    on_disk = str(getattr(factory, "driver_name", None) or name)
    if not is_name_on_disk(on_disk):
        raise DriverContractError(
            f"driver {name}: {on_disk!r} cannot be its name on disk: that is 1 to 63 letters, digits, dots, hyphens and "
            f"underscores, the first a letter; and not {' or '.join(_TAKEN)}"
        )
    return on_disk


def is_name_on_disk(name: str) -> bool:
    """Whether directories of a driver may be called so."""
    return _ON_DISK.fullmatch(name) is not None and name not in _TAKEN


def entry_point_of(on_disk: str) -> str:
    """The installed driver that has a name on disk, by the name of its entry point.

    Raises:
        DriverNotFound: no installed package offers it, or the package cannot be imported.
        AmbiguousDriver: several packages offer one of this name.
    """
    names = sorted(entry_point_names(DRIVERS), key=lambda name: (name != on_disk, name))
    for name in names:
        try:
            if driver_name(load_driver(name), name) == on_disk:
                return name
        except LayerStoreError:
            if name == on_disk:
                raise
    raise _not_installed(on_disk)


def priority(factory: DriverFactory) -> int | None:
    """How much a driver wants to be chosen where nobody names one; `None`: it has to be named."""
    value = getattr(factory, "priority", None)
    return value if isinstance(value, int) else None


def is_last_resort(factory: DriverFactory) -> bool:
    """Whether the driver's state in a root that Docker made does not mean that somebody chose it."""
    return bool(getattr(factory, "last_resort", False))


def package_of(factory: DriverFactory) -> str:
    """The top-level package that a driver comes from."""
    return str(getattr(factory, "__module__", "")).partition(".")[0]


def _not_installed(name: str) -> DriverNotFound:
    names = sorted(entry_point_names(DRIVERS))
    hint = did_you_mean(name.lower(), names)
    if not hint and is_name_on_disk(name):
        hint = f"; install the package that has it, perhaps: pip install layerstore-driver-{name}"
    return DriverNotFound(f"no driver {name!r} is installed (installed: {', '.join(names) or 'none'}){hint}")


def _describe(point: EntryPoint) -> InstalledDriver:
    return InstalledDriver(point.name, _told(point, "name"), _told(point, "version"), point)


def _told(point: EntryPoint, field: str) -> str:
    """What the metadata of a package say, if they can be read: they may be missing, or damaged."""
    try:
        return str(getattr(point.dist, field) or "unknown")
    except Exception:
        return "unknown"


def _name(point: EntryPoint, what: str) -> str:
    offer = _describe(point)
    return f"{what} {point.name!r} of package {offer.distribution} {offer.version}"


def _load(point: EntryPoint, what: str) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # whatever a stranger's module does when it is imported
        raise DriverNotFound(
            f"{_name(point, what)} is installed, but cannot be imported: {type(error).__name__}: {error}; "
            "install it again, or a version that fits this Python and layerstore-core"
        ) from error
