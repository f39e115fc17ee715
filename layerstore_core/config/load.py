"""Loading settings: from arguments, the environment, TOML files and defaults.

The first of these that has a setting counts: arguments; the environment (`LAYERSTORE_<NAME>`); the configuration
files; the default. The files are the one that is named (by argument or `LAYERSTORE_CONFIG`), or else the
user's (`$XDG_CONFIG_HOME/layerstore/config.toml`) and then the system's (`/etc/layerstore/config.toml`).
Options of drivers are in tables, `[drivers.<name>]`, and are merged key by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from layerstore_core.config.model import StoreConfig
from layerstore_core.config.settings import Settings
from layerstore_core.config.sources import (
    ANY_DRIVER,
    Layer,
    from_toml,
    merge_layers,
    named_files,
    plain_environment,
    variable,
)


def load_config(
    file: Path | None = None, /, *, driver_options: Mapping[str, Any] | None = None, **overrides: Unpack[Settings]
) -> StoreConfig:
    """Read the settings.

    Args:
        file: a configuration file to read instead of the user's and the system's; it has to exist.
        driver_options: options for the driver that will be used, whichever it is.
        overrides: settings by name, which go before all others.

    Raises:
        ConfigError: a setting is unknown, its value cannot be used, or a file cannot be read; the message names
            the setting and where it was found.
    """
    layers: list[Layer] = [(overrides, dict.fromkeys(overrides, "argument"))]
    if driver_options:
        layers.append(({"drivers": {ANY_DRIVER: dict(driver_options)}}, {"drivers": "argument"}))
    layers.append(_environment())
    layers += [_file(path) for path in named_files(file)]
    return StoreConfig.of(*merge_layers(layers))


def _environment() -> Layer:
    found = plain_environment()
    if found is None:
        from layerstore_core.config.pydantic_sources import from_environment  # lazy: pydantic-settings

        found = from_environment()
    return found, {name: f"environment {variable(name)}" for name in found}


def _file(path: Path) -> Layer:
    found = from_toml(path)
    return found, dict.fromkeys(found, f"file {path}")
