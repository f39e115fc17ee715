"""Settings: from arguments, the environment, TOML files and defaults, and where each came from.

The first of these that has a setting counts: arguments; the environment (`LAYERSTORE_<NAME>`); the configuration
files; the default. The files are the one that is named (by argument or `LAYERSTORE_CONFIG`), or else the
user's (`$XDG_CONFIG_HOME/layerstore/config.toml`) and then the system's (`/etc/layerstore/config.toml`).
Options of drivers stand in tables, `[drivers.<name>]`, and are put together key by key.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, Unpack

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from layerstore_core.base.units import parse_size
from layerstore_core.config.sources import (
    ANY_DRIVER,
    DEFAULT_SPOOL_SIZE,
    DOCKER_MAX_DEPTH,
    SETTINGS,
    Settings,
    default_root,
    did_you_mean,
    expanded,
    files,
    plain_environment,
    variable,
)
from layerstore_core.errors import ConfigError
from layerstore_core.tree.idmap import IDMapping, IDRange


class StoreConfig(BaseModel):
    """All settings of a store; made by `load_config`, or directly with the settings as keywords.

    Attributes:
        root: the store's directory.
        driver: the graph driver's name; `None`: the one the store was made with, or for a new store the best that works.
        driver_priority: the drivers to try, in this order, where nothing else decides; empty: as the drivers declare.
        drivers: options of drivers, by driver and name.
        durability: `"full"`: what has been registered survives a power cut; `"none"`: it is up to the kernel.
        max_depth: how many layers a chain may have, if the driver can hold as many. Docker opens no store with more than 125.
        max_layer_size: refuse a layer whose uncompressed tar is larger, in bytes; also as `"10G"`.
        max_spool_size: refuse an archive or a stream of which more would be written to a temporary file, in bytes; also as `"10G"`.
        commit_owner: where the store lacks root's rights, whose the files in a commit are: `"layer"`: those of the parent are as in
            its tar, and new ones root's; `"disk"`: as on disk, the user's own.
        uid_map: ranges `"container:host:length"` by which user IDs in layers are shifted on disk.
        gid_map: the same for group IDs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    root: Path = Field(default_factory=default_root)
    driver: str | None = None
    driver_priority: tuple[str, ...] = ()
    drivers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    durability: Literal["full", "none"] = "full"
    max_depth: int = Field(default=DOCKER_MAX_DEPTH, ge=1, le=10_000)
    max_layer_size: int | None = Field(default=None, ge=0)
    max_spool_size: int = Field(default=DEFAULT_SPOOL_SIZE, ge=0)
    commit_owner: Literal["layer", "disk"] = "layer"
    uid_map: tuple[str, ...] = ()
    gid_map: tuple[str, ...] = ()

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("root", mode="before")
    @classmethod
    def _not_empty(cls, root: object) -> object:
        if root == "":
            raise ValueError("is empty; name a directory, '.' for the current one")
        return root

    @field_validator("root", mode="after")
    @classmethod
    def _absolute(cls, root: Path) -> Path:
        return Path(os.path.abspath(expanded(root)))

    @field_validator("max_layer_size", "max_spool_size", mode="before")
    @classmethod
    def _size(cls, value: object) -> object:
        return parse_size(value) if isinstance(value, str) else value

    @field_validator("uid_map", "gid_map", mode="after")
    @classmethod
    def _ranges(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            _parse_range(text)
        return value

    @property
    def sources(self) -> Mapping[str, str]:
        """Where each setting came from: `"argument"`, `"environment <variable>"`, `"file <path>"` or `"default"`."""
        return {name: self._sources.get(name, "default") for name in type(self).model_fields}

    @property
    def id_mapping(self) -> IDMapping:
        """How IDs in layers correspond to IDs on disk."""
        return IDMapping(tuple(map(_parse_range, self.uid_map)), tuple(map(_parse_range, self.gid_map)))

    def options_of(self, driver: str, *aliases: str) -> dict[str, Any]:
        """The options for a driver, which may stand under its own name and under others."""
        options: dict[str, Any] = {}
        for name in (*aliases, driver):
            options.update(self.drivers.get(name, {}))
        return options

    def document(self) -> dict[str, Any]:
        """The settings by name, as JSON has them."""
        return self.model_dump(mode="json")

    def with_overrides(self, **overrides: Unpack[Settings]) -> StoreConfig:
        """The same settings, but for those given here.

        Raises:
            ConfigError: one is unknown, or cannot be used.
        """
        given = {name: getattr(self, name) for name in self._sources}
        return build([(overrides, dict.fromkeys(overrides, "argument")), (given, dict(self._sources))])

    def model_post_init(self, context: Any, /) -> None:
        """Note that what was given as a keyword came from there; `load_config` knows better."""
        self._sources = dict.fromkeys(self.model_fields_set, "argument")

    def _from(self, sources: dict[str, str]) -> Self:
        self._sources = sources
        return self


def load_config(
    file: Path | None = None, /, *, driver_options: Mapping[str, Any] | None = None, **overrides: Unpack[Settings]
) -> StoreConfig:
    """Read the settings.

    Args:
        file: a configuration file to read instead of the user's and the system's; it has to be there.
        driver_options: options for the driver that will be used, whichever it is.
        overrides: settings by name, which go before all others.

    Raises:
        ConfigError: a setting is unknown, its value cannot be used, or a file cannot be read; the message names
            the setting and where it stands.
    """
    layers: list[_Layer] = [(overrides, dict.fromkeys(overrides, "argument"))]
    if driver_options:
        layers.append(({"drivers": {ANY_DRIVER: dict(driver_options)}}, {"drivers": "argument"}))
    layers.append(_environment())
    layers += [_toml(path) for path in files(file)]
    return build(layers)


#: Settings, and the source of each.
_Layer = tuple[Mapping[str, Any], Mapping[str, str]]


def _environment() -> _Layer:
    found = plain_environment()
    if found is None:
        from layerstore_core.config.pydantic_sources import from_environment

        found = from_environment()
    return found, {name: f"environment {variable(name)}" for name in found}


def _toml(path: Path) -> _Layer:
    from layerstore_core.config.pydantic_sources import from_toml

    found = from_toml(path)
    return found, dict.fromkeys(found, f"file {path}")


def build(layers: list[_Layer]) -> StoreConfig:
    """Put settings together, the first layer first.

    Raises:
        ConfigError: as `load_config`.
    """
    merged: dict[str, Any] = {}
    origins_of: dict[str, str] = {}
    drivers: dict[str, dict[str, Any]] = {}
    for values, origins in reversed(layers):
        for name, value in values.items():
            if name == "drivers" and isinstance(value, Mapping):
                for driver, options in value.items():
                    drivers[driver] = (
                        {**drivers.get(driver, {}), **options} if isinstance(options, Mapping) else options
                    )
                value = drivers
                origins_of[name] = ", ".join(dict.fromkeys([origins[name], *filter(None, [origins_of.get(name)])]))
            else:
                origins_of[name] = origins[name]
            merged[name] = value
    try:
        return StoreConfig.model_validate(merged)._from(origins_of)  # noqa: SLF001 - for a moment
    except ValidationError as error:
        raise ConfigError(describe_errors(error, origins_of)) from error


def describe_errors(
    error: ValidationError,
    origins: Mapping[str, str] | None = None,
    what: str = "setting",
    known: Iterable[str] = SETTINGS,
) -> str:
    """What pydantic found, in sentences: each names the setting, what is wrong, and where it came from.

    Args:
        error: what was found.
        origins: where each setting came from.
        what: how to call one.
        known: the names that there are.
    """
    sentences = []
    for problem in error.errors(include_url=False):
        name = ".".join(map(str, problem["loc"]))
        top = str(problem["loc"][0]) if problem["loc"] else ""
        origin = f" (from {origins[top]})" if origins and top in origins else ""
        if problem["type"] == "extra_forbidden":
            sentences.append(f"unknown {what} {name!r}{origin}{did_you_mean(name, known)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = problem["input"]
            shown = str(given) if isinstance(given, Path) else given
            sentences.append(f"{what} {name!r}: {message}, not {shown!r}{origin}")
    return "; ".join(sentences)


def _parse_range(text: str) -> IDRange:
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts) or int(parts[2]) < 1:
        raise ValueError("an ID range has the form container:host:length")
    return IDRange(*map(int, parts))
