"""Reading lists and tables from the environment, with pydantic-settings.

A module of its own, because loading pydantic-settings takes as long as all else that a short command does:
`config.load` imports it only where a variable needs it.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

from pydantic import create_model
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from layerstore_core.config.settings import SETTINGS, SettingFields, setting_types
from layerstore_core.config.sources import PREFIX
from layerstore_core.errors import ConfigError


class _Environment(BaseSettings):
    # An empty variable is one that is not set: an empty root would be the working directory.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid"
    )


@cache
def _names() -> type[BaseSettings]:
    """Return the settings for pydantic-settings to look for; their values are validated later."""
    hints = setting_types()
    members: dict[str, Any] = {one.name: (hints[one.name], None) for one in fields(SettingFields)}
    return create_model("Environment", __base__=_Environment, **members)


def from_environment() -> dict[str, Any]:
    """Return the settings that variables hold.

    Raises:
        ConfigError: a list or a table is not JSON.
    """
    try:
        return EnvSettingsSource(_names())()
    except Exception as error:  # pydantic-settings wraps what its JSON parser says
        raise ConfigError(
            f"{_variable_in(str(error))}: not JSON, as lists and tables in the environment have to be"
        ) from error


def _variable_in(message: str) -> str:
    names = [PREFIX + name.upper() for name in SETTINGS if f'"{name}"' in message]
    return names[0] if names else "the environment"
