"""The installed drivers and wrappers, found through entry points."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from layerstore_core._version import __version__
from layerstore_core.base.plugins import DRIVERS, KNOWN_LIMITS, WRAPPERS, entry_point_names, installed_entry_points
from layerstore_core.config.sources import did_you_mean
from layerstore_core.driver.context import DriverContext
from layerstore_core.errors import (
    AmbiguousDriver,
    DriverContractError,
    DriverNotFound,
    DriverNotSupported,
    LayerStoreError,
)

if TYPE_CHECKING:
    from layerstore_core.base.plugins import EntryPoint


#: Shorter than the 64 digits of an ID, and unlike a time: entries with such names are next to drivers' directories
#: (`records/own_state.py`).
_ON_DISK: Final = r"[A-Za-z][A-Za-z0-9_.-]{0,62}"
#: The other names under a root.
_TAKEN: Final = ("image", "layerstore")

#: The object that an entry point refers to. Called with a `DriverContext`, it returns a driver.
DriverFactory = Callable[[DriverContext], Any]


class InstalledDriver(NamedTuple):
    """A driver of an installed distribution.

    Attributes:
        name: the entry point's name.
        distribution: the name of the distribution.
        version: the distribution's version.
        entry_point: the entry point, which refers to the driver.
    """

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint


def installed_drivers() -> list[InstalledDriver]:
    """Return all installed drivers, sorted by name. Import none of them."""
    return sorted((_describe(point) for point in installed_entry_points(DRIVERS)), key=lambda driver: driver.name)


def driver_names() -> list[str]:
    """Return the names of all installed drivers, sorted."""
    return sorted(entry_point_names(DRIVERS))


def load_driver(name: str) -> DriverFactory:
    """Import a driver.

    Raises:
        DriverNotFound: no installed package has this driver, or the package cannot be imported.
        AmbiguousDriver: several packages have a driver of this name.
    """
    found = [point for point in installed_entry_points(DRIVERS) if point.name == name]
    if not found:
        raise _not_installed(name)
    # Read a package's metadata only if its name is needed: that takes as long as everything else here.
    if len(found) > 1 and len({_describe(point).distribution for point in found}) > 1:
        packages = " and ".join(_describe(point).distribution for point in found)
        raise AmbiguousDriver(f"a driver {name!r} comes from {packages}; uninstall all but one of these packages")
    factory = _load(found[0], "driver")
    if not callable(factory):
        raise DriverNotFound(f"driver {name!r}: {found[0].value} is neither a class nor a function")
    return factory  # type: ignore[no-any-return]


def load_wrappers() -> list[tuple[str, object]]:
    """Create the installed wrapper plugins. Return them with their names, sorted by name.

    Raises:
        DriverNotFound: a package cannot be imported.
        DriverContractError: a wrapper's class cannot be called without arguments.
    """
    wrappers: list[tuple[str, object]] = []
    for point in sorted(installed_entry_points(WRAPPERS), key=lambda point: point.name):
        plugin = _load(point, "wrapper")
        try:
            wrappers.append((point.name, plugin() if isinstance(plugin, type) else plugin))
        except Exception as error:
            raise DriverContractError(
                f"{_name(point, 'wrapper')} cannot be created: {type(error).__name__}: {error}"
            ) from error
    return wrappers


def load_known_limits(name: str) -> object:
    """Import what a driver's package declares that the driver is known not to do. It may be anything.

    The entry point has the driver's name, and counts only in the package that has the driver.

    Returns:
        The object, and an empty mapping if there is no such entry point.

    Raises:
        DriverNotFound: the object cannot be imported.
    """
    owners = {_describe(point).distribution for point in installed_entry_points(DRIVERS) if point.name == name}
    for point in installed_entry_points(KNOWN_LIMITS):
        if point.name == name and _describe(point).distribution in owners:
            return _load(point, "the list of known limits")
    return {}


def load_options(reference: str, driver: str) -> type:
    """Import the model of a driver's options.

    Args:
        reference: the model's place, `<module>:<class>`, as in the driver's `Options`.
        driver: the driver's name.

    Raises:
        DriverContractError: the model cannot be imported, or is no pydantic model.
    """
    module, _, name = reference.partition(":")
    try:
        model = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise DriverContractError(
            f"driver {driver}: the model of its options, {reference!r}, cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, type) or not hasattr(model, "model_validate"):
        raise DriverContractError(f"driver {driver}: the model of its options, {reference!r}, is no pydantic model")
    return model


def driver_name(factory: DriverFactory, name: str) -> str:
    """Return the name of a driver on disk: its `driver_name` if it declares one, otherwise its entry point's name.

    Raises:
        DriverContractError: the name cannot be the name of a driver's directories.
    """
    on_disk = str(getattr(factory, "driver_name", None) or name)
    if not is_name_on_disk(on_disk):
        raise DriverContractError(
            f"driver {name}: {on_disk!r} cannot be its name on disk: a name has 1 to 63 letters, digits, dots, hyphens "
            f"and underscores, the first a letter, and is not {' or '.join(_TAKEN)}"
        )
    return on_disk


def is_name_on_disk(name: str) -> bool:
    """Return whether a driver's directories may have this name."""
    return re.fullmatch(_ON_DISK, name) is not None and name not in _TAKEN


def entry_point_of(on_disk: str) -> str:
    """Return the entry point's name of the installed driver that has a name on disk.

    Raises:
        DriverNotFound: no installed package has this driver, or the package cannot be imported.
        AmbiguousDriver: several packages have a driver of this name.
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


def contract(factory: DriverFactory, name: str) -> int:
    """Return the version of the contract that a driver was written for: its `contract`, or 1 if it declares none.

    Raises:
        DriverContractError: it declares something else than a version.
    """
    value = getattr(factory, "contract", 1)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DriverContractError(f"driver {name}: its `contract` is {value!r}, not a whole number from 1 on")
    return value


def check_contract(factory: DriverFactory, name: str) -> None:
    """Refuse a driver that was written for a version of the contract that is not known here.

    Raises:
        DriverContractError: as for `contract`.
        DriverNotSupported: the version is too new or too old. The message says what to install.
    """
    from layerstore_core.driver.hookspecs import CONTRACT, OLDEST_CONTRACT  # lazy: loads pluggy

    wanted = contract(factory, name)
    if OLDEST_CONTRACT <= wanted <= CONTRACT:
        return
    point = next((point for point in installed_entry_points(DRIVERS) if point.name == name), None)
    who = _name(point, "driver") if point else f"driver {name!r}"
    package = _describe(point).distribution if point else "the driver's package"
    known = f"layerstore-core {__version__} has version {CONTRACT}"
    if wanted > CONTRACT:
        what = f"a newer layerstore-core (pip install -U layerstore-core), or an older version of {package}"
    else:
        what = f"a newer version of {package}"
        known += f", and takes drivers from version {OLDEST_CONTRACT} on"
    raise DriverNotSupported(
        f"{who} was written for version {wanted} of the driver contract, but {known}; install {what}"
    )


def priority(factory: DriverFactory) -> int | None:
    """Return the priority by which a driver is chosen if none is named. `None`: it must be named."""
    value = getattr(factory, "priority", None)
    return value if isinstance(value, int) else None


def is_last_resort(factory: DriverFactory) -> bool:
    """Return whether a driver is one that Docker takes only where no other works (`last_resort`).

    Then its state in a root that Docker created does not mean that a user chose it.
    """
    return bool(getattr(factory, "last_resort", False))


def wants_user_namespace(factory: DriverFactory) -> bool:
    """Return whether an ordinary user can use a driver in a user namespace, and not otherwise (`user_namespace`)."""
    return bool(getattr(factory, "user_namespace", False))


def package_of(factory: DriverFactory) -> str:
    """Return the name of the top-level package that a driver comes from."""
    return str(getattr(factory, "__module__", "")).partition(".")[0]


def _not_installed(name: str) -> DriverNotFound:
    names = sorted(entry_point_names(DRIVERS))
    hint = did_you_mean(name.lower(), names)
    if not hint and is_name_on_disk(name):
        hint = f"; install the package that has it, perhaps: pip install layerstore-driver-{name}"
    return DriverNotFound(f"no driver {name!r} is installed (installed: {', '.join(names) or 'none'}){hint}")


def _describe(point: EntryPoint) -> InstalledDriver:
    return InstalledDriver(point.name, _metadata(point, "name"), _metadata(point, "version"), point)


def _metadata(point: EntryPoint, field: str) -> str:
    """Return a field of the package's metadata. Return "unknown" if it is missing, or damaged."""
    try:
        return str(getattr(point.dist, field) or "unknown")
    except Exception:
        return "unknown"


def _name(point: EntryPoint, what: str) -> str:
    driver = _describe(point)
    return f"{what} {point.name!r} of package {driver.distribution} {driver.version}"


def _load(point: EntryPoint, what: str) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # importing third-party code may raise anything
        raise DriverNotFound(
            f"{_name(point, what)} is installed, but cannot be imported: {type(error).__name__}: {error}; "
            "reinstall it, or install a version that fits this Python and layerstore-core"
        ) from error
