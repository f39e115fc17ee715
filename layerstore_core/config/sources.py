"""Where settings are looked for, but for their values: the variables and the files.

Without pydantic, so that a command with usual settings need not load it (`config.plain`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypedDict

from layerstore_core.errors import ConfigError

PREFIX: Final = "LAYERSTORE_"
SYSTEM_FILE: Final = Path("/etc/layerstore/config.toml")
#: Docker's limit: 127 layers that its drivers hold, less the two of a writable layer.
DOCKER_MAX_DEPTH: Final = 125
#: Of what is written to a temporary file of an archive or a stream, in bytes.
DEFAULT_SPOOL_SIZE: Final = 64 << 30
#: The table of options that are for whichever driver is used.
ANY_DRIVER: Final = "*"
#: The variable that names the configuration file.
_FILE_VARIABLE: Final = PREFIX + "CONFIG"
#: The beginnings of variables for the tests of this package and of drivers: commands that they run see these, too.
_OF_TESTS: Final = ("TEST_", "SHARED", "RELIABILITY", "FIGURES", "GROWTH", "MUTANTS")
#: All settings, by name.
SETTINGS: Final = (
    "root",
    "driver",
    "driver_priority",
    "drivers",
    "durability",
    "max_depth",
    "max_layer_size",
    "max_spool_size",
    "commit_owner",
    "uid_map",
    "gid_map",
)


class Settings(TypedDict, total=False):
    """The settings as keywords; see `StoreConfig`."""

    root: str | os.PathLike[str]
    driver: str | None
    driver_priority: Sequence[str]
    drivers: Mapping[str, Mapping[str, Any]]
    durability: Literal["full", "none"]
    max_depth: int
    max_layer_size: int | str | None
    max_spool_size: int | str
    commit_owner: Literal["layer", "disk"]
    uid_map: Sequence[str]
    gid_map: Sequence[str]


#: The settings whose variables hold one word or number each, and are no JSON.
_ONE_WORD: Final = ("root", "driver", "durability", "max_depth", "max_layer_size", "max_spool_size", "commit_owner")


def default_root() -> Path:
    """`/var/lib/layerstore` for root; for others `layerstore` under `$XDG_DATA_HOME`, or `~/.local/share`.

    Raises:
        ConfigError: that is nowhere: there is no such variable, and no home directory.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/layerstore")
    if data := os.environ.get("XDG_DATA_HOME"):
        return Path(data) / "layerstore"
    try:
        return expanded(Path("~/.local/share/layerstore"))
    except ValueError:
        raise ConfigError(
            f"root: user {os.geteuid()} has no home directory for a store to be in; name one, or set HOME"
        ) from None


def expanded(path: Path) -> Path:
    """A path with the home directory in place of a `~` or `~user` at its beginning.

    Raises:
        ValueError: there is none that anybody knows of.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"{path.parts[0]} is nobody's home directory that is known here") from None


def plain_environment() -> dict[str, Any] | None:
    """What `settings.from_environment` gives, without pydantic-settings; `None` where that is needed.

    Raises:
        ConfigError: a variable is called as if it held a setting, and there is none of its name.
    """
    _refuse_unknown_variables()
    found: dict[str, Any] = {}
    for name in SETTINGS:
        names = variables(name)
        if not names:
            continue
        if name not in _ONE_WORD or names != [(PREFIX + name).upper()]:
            return None
        if value := os.environ[names[0]]:
            found[name] = value
    return found


def did_you_mean(name: str, known: Iterable[str], show: Callable[[str], str] = str) -> str:
    """The end of a sentence about a name that nobody knows: those that are spelt alike, if there are any, as `show` has them."""
    import difflib

    near = list(map(show, difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.7)))
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _refuse_unknown_variables() -> None:
    """Settings may be written in any case, as pydantic-settings has it; of `drivers` parts, after two underscores."""
    unknown = {}
    for key, value in os.environ.items():
        upper = key.upper()
        if value and upper.startswith(PREFIX) and key != _FILE_VARIABLE:
            name = upper.removeprefix(PREFIX).lower()
            if (
                name not in SETTINGS
                and not name.startswith("drivers__")
                and not _is_another_s(key.removeprefix(PREFIX))
            ):
                unknown[key] = did_you_mean(name, ("config", *SETTINGS), lambda near: (PREFIX + near).upper())
    if unknown:
        raise ConfigError(
            "; ".join(f"unknown setting in the environment: {key}{unknown[key]}" for key in sorted(unknown))
        )


def _is_another_s(name: str) -> bool:
    """Whether a variable is that of the tests, or of a driver or wrapper that is installed: `LAYERSTORE_<ITS NAME>_…`."""
    if name.startswith(_OF_TESTS):
        return True
    from layerstore_core.base.plugins import DRIVERS, WRAPPERS, entry_point_names

    offered = (re.sub("[-.]", "_", own.upper()) for own in entry_point_names(DRIVERS, WRAPPERS))
    return any(name.startswith(f"{own}_") for own in offered)


def variables(name: str) -> list[str]:
    """The variables that are set, and hold a setting or parts of it."""
    wanted = (PREFIX + name).upper()
    return sorted(key for key in os.environ if key.upper() == wanted or key.upper().startswith(wanted + "__"))


def variable(name: str) -> str:
    """The variable that holds a setting, as messages call it."""
    return ", ".join(variables(name)) or (PREFIX + name).upper()


def files(named: Path | None) -> list[Path]:
    """The configuration files to read, the one that goes before the other first.

    Args:
        named: the one that an argument names: there is no other then, and it has to be there.

    Raises:
        ConfigError: it is named by a home directory that there is not.
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
        return [SYSTEM_FILE] if SYSTEM_FILE.exists() else []
    return [path for path in (user, SYSTEM_FILE) if path.exists()]
