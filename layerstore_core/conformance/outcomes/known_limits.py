"""Known limits: the tests that a driver is declared to fail, each with the reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from layerstore_core.config.sources import did_you_mean
from layerstore_core.driver import registry
from layerstore_core.errors import ConfigError

_MOST: Final = 1000
_EXAMPLE: Final = '{"limits: test_long_names": "the file system refuses names of more than 251 bytes"}'


def declared_limits(suite: type, driver: str) -> Mapping[str, str]:
    """Return the limits of a class of tests: its own, or those of the package that the driver comes from.

    Raises:
        ConfigError: they are no mapping of names to reasons.
        DriverNotFound: those of the package cannot be imported.
    """
    own: Any = getattr(suite, "known_limits", None)
    found: Any = registry.load_known_limits(driver) if own is None else own
    whose = f"the known limits of driver {driver!r}" if own is None else f"{suite.__name__}.known_limits"
    if not isinstance(found, Mapping) or len(found) > _MOST:
        raise ConfigError(f"{whose} must be a mapping of tests to reasons, such as {_EXAMPLE}")
    for name, reason in found.items():
        if not isinstance(name, str) or not isinstance(reason, str) or not reason.strip():
            raise ConfigError(f"{whose}: {name!r} must have a reason, a text that is not empty, such as in {_EXAMPLE}")
    return found


def check_names(limits: Mapping[str, str], known: Collection[tuple[str, str]], whose: str) -> None:
    """Check that each limit names a test.

    Args:
        limits: the declared limits.
        known: the group and the name of each test that there is.
        whose: the class of tests, for the message.

    Raises:
        ConfigError: a limit names no test. The message has similar names.
    """
    names = {key for group, name in known for key in keys_of(group, name)}
    for limit in limits:
        if limit not in names:
            raise ConfigError(
                f"{whose}: there is no test {limit!r}{did_you_mean(limit, names)} A known limit is "
                "GROUP: TEST as reports print it, with or without the parameters in brackets"
            )


def limit_of(limits: Mapping[str, str], group: str, name: str) -> str:
    """Return the reason for which a test is limited, empty if it is not."""
    return next((limits[key].strip() for key in keys_of(group, name) if key in limits), "")


def keys_of(group: str, name: str) -> tuple[str, str]:
    """Return the names by which a test can be declared: with its parameters, and without."""
    return f"{group}: {name}", f"{group}: {name.partition('[')[0]}"
