"""The places where settings are found: variables of the environment, and TOML files. Nothing here needs pydantic."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from layerstore_core.base import kernels
from layerstore_core.base.paths import expanded
from layerstore_core.config.settings import ONE_WORD, SETTINGS
from layerstore_core.errors import ConfigError

#: Settings by name, and the source of each.
Layer = tuple[Mapping[str, Any], Mapping[str, str]]

PREFIX: Final = "LAYERSTORE_"
SYSTEM_FILE: Final = Path("/etc/layerstore/config.toml")
#: The table of options for the driver that is used, whatever its name.
ANY_DRIVER: Final = "*"
#: The settings that are tables of tables. They are merged key by key.
TABLES: Final = ("drivers", "registries", "report")
#: The variable that names the configuration file.
_FILE_VARIABLE: Final = PREFIX + "CONFIG"
#: Variables that are read elsewhere.
_NOT_SETTINGS: Final = (_FILE_VARIABLE, kernels.VARIABLE)
#: Prefixes of variables for the tests of this package and of drivers. The commands that tests run see these, too.
_OF_TESTS: Final = ("TEST_", "SHARED", "RELIABILITY", "FIGURES", "GROWTH", "MUTANTS")


def plain_environment() -> dict[str, Any] | None:
    """Return the settings that variables hold as single words.

    Returns:
        The settings by name; `None` if a variable holds a list or a table, which `config.pydantic_sources` reads.

    Raises:
        ConfigError: a variable has the prefix of settings, and no setting has its name.
    """
    _refuse_unknown_variables()
    found: dict[str, Any] = {}
    given = [key for key in os.environ if key.upper().startswith(PREFIX)]
    for name in SETTINGS:
        names = _of_setting(name, given)
        if not names:
            continue
        if name not in ONE_WORD or names != [(PREFIX + name).upper()]:
            return None
        if value := os.environ[names[0]]:
            found[name] = value
    return found


def did_you_mean(name: str, known: Iterable[str], show: Callable[[str], str] = str) -> str:
    """Return the end of a message about an unknown name: a question that names similar ones, or nothing.

    Args:
        name: the unknown name.
        known: the names that exist.
        show: turns a known name into the form for the message.
    """
    import difflib

    near = list(map(show, difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.7)))
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _refuse_unknown_variables() -> None:
    """Raise `ConfigError` for variables that look like settings and are none.

    As in pydantic-settings, names are compared without regard to case, and parts of `drivers` follow two underscores.
    """
    unknown = {}
    for key, value in os.environ.items():
        upper = key.upper()
        if value and upper.startswith(PREFIX) and key not in _NOT_SETTINGS:
            name = upper.removeprefix(PREFIX).lower()
            if name not in SETTINGS and not name.startswith("drivers__") and not _is_reserved(key.removeprefix(PREFIX)):
                unknown[key] = did_you_mean(name, ("config", *SETTINGS), lambda near: (PREFIX + near).upper())
    if unknown:
        raise ConfigError(
            "; ".join(f"unknown setting in the environment: {key}{unknown[key]}" for key in sorted(unknown))
        )


def _is_reserved(name: str) -> bool:
    """Return whether a variable belongs to the tests, or to an installed driver or wrapper (`LAYERSTORE_<NAME>_…`)."""
    if name.startswith(_OF_TESTS):
        return True
    from layerstore_core.base.plugins import DRIVERS, WRAPPERS, entry_point_names

    installed = (re.sub("[-.]", "_", own.upper()) for own in entry_point_names(DRIVERS, WRAPPERS))
    return any(name.startswith(f"{own}_") for own in installed)


def variables(name: str) -> list[str]:
    """Return the variables that are set, and hold a setting or parts of it."""
    return _of_setting(name, os.environ)


def _of_setting(name: str, among: Iterable[str]) -> list[str]:
    wanted = (PREFIX + name).upper()
    return sorted(key for key in among if key.upper() == wanted or key.upper().startswith(wanted + "__"))


def variable(name: str) -> str:
    """Return the name of the variable that holds a setting, for messages."""
    return ", ".join(variables(name)) or (PREFIX + name).upper()


def named_files(named: Path | None) -> list[Path]:
    """Return the configuration files to read, in the order of precedence.

    Args:
        named: the file that an argument names. It is then the only one, and it has to exist.

    Raises:
        ConfigError: the name begins with a home directory that is not known.
    """
    if named is None and (value := os.environ.get(_FILE_VARIABLE)):
        named = Path(value)
    if named is not None:
        try:
            return [expanded(Path(named))]
        except ValueError as error:
            raise ConfigError(f"{named}: the configuration file cannot be read: {error}") from None
    try:
        configured = os.environ.get("XDG_CONFIG_HOME")
        user = (Path(configured) if configured else expanded(Path("~/.config"))) / "layerstore" / "config.toml"
    except ValueError:  # as in a container, for a user that it does not know
        return [SYSTEM_FILE] if os.path.exists(SYSTEM_FILE) else []
    # False, too, in a directory that this user may not enter: HOME is another user's, as in some containers.
    return [path for path in (user, SYSTEM_FILE) if os.path.exists(path)]


def from_toml(path: Path) -> dict[str, Any]:
    """Return the settings in a file.

    Raises:
        ConfigError: it is not TOML, or cannot be read.
    """
    import tomllib  # lazy: few commands have a file to read

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: the configuration file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def as_table(value: Any) -> Any:
    """Return the settings of a registry that are not the default as a table; any other value as it is."""
    given = getattr(value, "given", None)
    return given() if callable(given) else value


def merge_layers(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Merge settings, the first layer before the others; tables of tables, such as `drivers`, key by key.

    Returns:
        The settings, and where each came from.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    tables: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
    for given, sources in reversed(layers):
        for name, value in given.items():
            if name in TABLES and isinstance(value, Mapping):
                merged = tables[name]
                for key, inner in value.items():
                    before, given_here = merged.get(key), as_table(inner)
                    if isinstance(given_here, Mapping):
                        given_here = {**(before if isinstance(before, Mapping) else {}), **given_here}
                    merged[key] = given_here
                values[name] = merged
                origins[name] = ", ".join(dict.fromkeys([sources[name], *filter(None, [origins.get(name)])]))
            else:
                values[name], origins[name] = value, sources[name]
    return values, origins
