"""What pydantic-settings reads for `config`: the environment and TOML files.

A module of its own, because loading pydantic-settings takes as long as all else that a short command does: `config`
imports this only where there is something for it to read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from layerstore_core.config.sources import PREFIX
from layerstore_core.errors import ConfigError


class _Names(BaseSettings):
    """The settings by name alone: what pydantic-settings reads, `StoreConfig` validates."""

    # An empty variable is one that is not set: an empty root would be the working directory.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid"
    )

    root: Path = Path()
    driver: str | None = None
    driver_priority: tuple[str, ...] = ()
    drivers: dict[str, dict[str, Any]] = {}
    durability: str = ""
    max_depth: int = 0
    max_layer_size: int | str | None = None
    max_spool_size: int | str = 0
    commit_owner: str = ""
    uid_map: tuple[str, ...] = ()
    gid_map: tuple[str, ...] = ()


def from_environment() -> dict[str, Any]:
    """The settings that variables hold.

    Raises:
        ConfigError: a list or a table is not JSON.
    """
    try:
        return EnvSettingsSource(_Names)()
    except Exception as error:  # pydantic-settings wraps what its JSON parser says
        raise ConfigError(
            f"{_env_name_in(str(error))}: not JSON, as lists and tables in the environment have to be"
        ) from error


def from_toml(path: Path) -> dict[str, Any]:
    """The settings in a file.

    Raises:
        ConfigError: it is no TOML, or cannot be read.
    """
    try:
        with open(path, "rb"):  # the source would take a file that cannot be read for one that is not there
            return TomlConfigSettingsSource(_Names, path)()
    except OSError as error:
        raise ConfigError(f"{path}: the configuration file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _env_name_in(message: str) -> str:
    names = [PREFIX + name.upper() for name in _Names.model_fields if f'"{name}"' in message]
    return names[0] if names else "the environment"
