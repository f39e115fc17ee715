"""Validating settings and drivers' options with pydantic, with errors that name the setting and where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from layerstore_core.config.registries import HostSettings
from layerstore_core.config.settings import SETTINGS, SettingFields, setting_types
from layerstore_core.config.sources import did_you_mean
from layerstore_core.errors import ConfigError

#: The names in a table of `registries`.
_HOST_SETTINGS = tuple(one.name for one in fields(HostSettings))


def validated(values: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, Any]:
    """Return all settings, those that are not given with their defaults.

    Args:
        values: the settings by name.
        origins: where each came from.

    Raises:
        ConfigError: one is unknown, or cannot be used.
    """
    try:
        model = _model().model_validate(values)
    except ValidationError as error:
        raise ConfigError(describe_errors(error, origins)) from error
    return {name: getattr(model, name) for name in SETTINGS}


def describe_errors(
    error: ValidationError,
    origins: Mapping[str, str] | None = None,
    what: str = "setting",
    known: Iterable[str] = SETTINGS,
) -> str:
    """Return what pydantic found, in sentences: each names the setting, what is wrong, and where it came from.

    Args:
        error: what was found.
        origins: where each setting came from.
        what: the word for one: a setting, an option.
        known: the names that exist.
    """
    sentences = []
    for problem in error.errors(include_url=False):
        name = ".".join(map(str, problem["loc"]))
        top = str(problem["loc"][0]) if problem["loc"] else ""
        origin = f" (from {origins[top]})" if origins and top in origins else ""
        if problem["type"] == "extra_forbidden":
            sentences.append(f"unknown {what} {name!r}{origin}{did_you_mean(name, known)}")
        elif problem["type"] == "unexpected_keyword_argument":  # in a table that is a dataclass
            key = str(problem["loc"][-1])
            sentences.append(f"unknown {what} {name!r}{origin}{did_you_mean(key, _HOST_SETTINGS)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = problem["input"]
            shown = str(given) if isinstance(given, Path) else given
            sentences.append(f"{what} {name!r}: {message}, not {shown!r}{origin}")
    return "; ".join(sentences)


@cache
def _model() -> type[BaseModel]:
    """Return the model of `StoreConfig`: its fields, with the limits and validators of their metadata."""
    hints = setting_types()
    members: dict[str, Any] = {}
    for one in fields(SettingFields):
        limits = {key: value for key, value in one.metadata.items() if key != "json"}
        extras: list[Any] = []
        if before := limits.pop("before", None):
            extras.append(BeforeValidator(before))
        if after := limits.pop("after", None):
            extras.append(AfterValidator(after))
        annotation = hints[one.name]
        if extras:
            annotation = Annotated[(annotation, *extras)]
        factory = None if one.default_factory is MISSING else one.default_factory
        default = Field(default_factory=factory, **limits) if factory else Field(default=one.default, **limits)
        members[one.name] = (annotation, default)
    return create_model("StoreConfig", __config__=ConfigDict(extra="forbid"), **members)
