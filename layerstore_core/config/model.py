"""The settings of one store, validated, and where each came from.

If only root, driver and durability are given, and have usual values, this module checks them itself. Anything else is
validated by pydantic (`config.validation`). Loading that takes 100 ms, longer than exporting a small layer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Self, Unpack

from layerstore_core.config.settings import SETTINGS, SettingFields, Settings, default_root, parse_range
from layerstore_core.config.sources import TABLES, as_table, merge_layers
from layerstore_core.tree.idmap import IDMapping

#: The settings whose usual values need no validation.
_PLAIN: Final = frozenset({"root", "driver", "durability"})


class StoreConfig(SettingFields):
    """All settings of a store; made by `load_config`, or directly with the settings as keywords.

    The settings are its attributes; `SettingFields` says what each means.
    """

    def __init__(self, **settings: Unpack[Settings]) -> None:
        """Validate settings.

        Args:
            settings: the settings by name; the others have their defaults.

        Raises:
            ConfigError: one is unknown, or cannot be used.
        """
        _fill(self, settings, dict.fromkeys(settings, "argument"))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoreConfig):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in SETTINGS)

    __hash__ = None  # type: ignore[assignment]  # options of drivers are dictionaries

    def __repr__(self) -> str:
        return f"StoreConfig({', '.join(f'{name}={getattr(self, name)!r}' for name in SETTINGS)})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to {name!r}: settings are fixed; see StoreConfig.with_overrides")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete {name!r}: settings are fixed")

    @classmethod
    def of(cls, values: Mapping[str, Any], origins: Mapping[str, str]) -> Self:
        """Validate settings that come from several places.

        Args:
            values: the settings by name.
            origins: where each came from, as `sources` has it.

        Raises:
            ConfigError: one is unknown, or cannot be used; the message says where it came from.
        """
        made = cls.__new__(cls)
        _fill(made, values, origins)
        return made

    @property
    def sources(self) -> Mapping[str, str]:
        """Where each setting came from: `"argument"`, `"environment <variable>"`, `"file <path>"` or `"default"`."""
        origins: Mapping[str, str] = self.__dict__["_origins"]
        return {name: origins.get(name, "default") for name in SETTINGS}

    @property
    def id_mapping(self) -> IDMapping:
        """How IDs in layers correspond to IDs on disk."""
        return IDMapping(tuple(map(parse_range, self.uid_map)), tuple(map(parse_range, self.gid_map)))

    def options_of(self, driver: str, *aliases: str) -> dict[str, Any]:
        """Return the options for a driver, under its own name or under others; its own name wins."""
        options: dict[str, Any] = {}
        for name in (*aliases, driver):
            options.update(self.drivers.get(name, {}))
        return options

    def document(self) -> dict[str, Any]:
        """Return the settings by name, as JSON has them."""
        import json

        values = {name: getattr(self, name) for name in SETTINGS}
        document: dict[str, Any] = json.loads(json.dumps(values, default=_plain_value))
        return document

    def with_overrides(self, **overrides: Unpack[Settings]) -> StoreConfig:
        """Return the same settings, but for those given here; options of drivers are merged.

        Raises:
            ConfigError: one is unknown, or cannot be used.
        """
        origins: Mapping[str, str] = self.__dict__["_origins"]
        given = {name: getattr(self, name) for name in origins}
        return StoreConfig.of(*merge_layers([(overrides, dict.fromkeys(overrides, "argument")), (given, origins)]))


def _plain_value(value: object) -> object:
    table = as_table(value)
    return str(value) if table is value else table


def _fill(config: StoreConfig, values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Set the fields of a new object, which are frozen afterwards."""
    valid = _plain(values)
    if valid is None:
        from layerstore_core.config.validation import validated  # lazy: pydantic takes 100 ms

        valid = validated(values, origins)
    for name, value in valid.items():
        object.__setattr__(config, name, value)
    object.__setattr__(config, "_origins", dict(origins))


def _plain(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return all settings where those given need no validation; `None` where they do."""
    if not values.keys() <= _PLAIN:
        return None
    root, driver, durability = values.get("root"), values.get("driver"), values.get("durability", "full")
    if "root" not in values:
        root = default_root()
    elif isinstance(root, str | Path) and str(root)[:1] not in ("", "~"):
        root = Path(os.path.abspath(Path(root)))
    else:
        return None
    if not (driver is None or isinstance(driver, str)) or durability not in ("full", "none"):
        return None
    defaults: dict[str, Any] = {one.name: {} if one.name in TABLES else one.default for one in fields(StoreConfig)}
    return {**defaults, "root": root, "driver": driver, "durability": durability}
