"""The context that a driver is created and probed with, with options that its own model has validated."""

from __future__ import annotations

from collections.abc import Iterable
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from layerstore_core.base.plugins import DRIVERS, entry_point_names
from layerstore_core.config.sources import ANY_DRIVER, did_you_mean
from layerstore_core.driver import registry
from layerstore_core.driver.context import DriverContext
from layerstore_core.errors import ConfigError, DriverContractError
from layerstore_core.log import driver_logger, logger

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from layerstore_core.config.model import StoreConfig
    from layerstore_core.driver.registry import DriverFactory


def context_of(factory: DriverFactory, name: str, config: StoreConfig) -> DriverContext:
    """Return the context of a driver.

    Args:
        factory: the driver's class, or a function that returns a driver.
        name: the driver's name. A `driver_name` that the driver declares takes precedence.
        config: the root, and the options of drivers. If `config` names a driver, the options for any driver are for
            that driver only.

    Raises:
        ConfigError: the driver does not know an option, or an option has an invalid value.
        DriverContractError: its name cannot be a name on disk, or the model of its options cannot be imported or fails.
        DriverNotSupported: it was written for a version of the contract that is not known here.
    """
    registry.check_contract(factory, name)
    on_disk = registry.driver_name(factory, name)
    options = config.options_of(on_disk, name)
    if config.driver in (None, name, on_disk):
        options |= config.drivers.get(ANY_DRIVER, {})
    return DriverContext(
        home=config.root / on_disk,
        logger=driver_logger(on_disk, registry.package_of(factory)),
        id_mapping=config.id_mapping,
        options=_validated(factory, on_disk, options, config),
    )


def warn_of_unknown_drivers(config: StoreConfig) -> None:
    """Log the drivers in the settings that are not installed, and whose names look like misspelt ones."""
    if config.drivers or config.driver_priority:
        known = entry_point_names(DRIVERS)
        for name in sorted({*config.drivers, *config.driver_priority} - known - {ANY_DRIVER}):
            if hint := did_you_mean(name, known):
                logger.warning("the settings name a driver {!r}, which is not installed{}", name, hint)


class DriverOption(NamedTuple):
    """An option of a driver, from the field of its model.

    Attributes:
        name: its name.
        others: other names that are accepted, such as Docker's.
        type: what a value is, in words, with the limits that the model declares.
        default: the value without the option; `None` if that is none, or if it is required.
        required: whether the driver cannot be used without it.
        unit: the unit of a number, from `json_schema_extra={"unit": …}` of the field; empty without one.
        description: what it does, from the field's `description`.
    """

    name: str
    others: tuple[str, ...]
    type: str
    default: Any
    required: bool
    unit: str
    description: str


def driver_options(name: str) -> list[DriverOption]:
    """Return the options of an installed driver, in the order of its model.

    Raises:
        DriverNotFound, AmbiguousDriver: as for `registry.load_driver`.
        DriverContractError: the model of its options cannot be imported, or fails.
    """
    model = getattr(registry.load_driver(name), "Options", None)
    if isinstance(model, str):
        model = registry.load_options(model, name)
    fields = getattr(model, "model_fields", None)
    return [_described(name, option, field) for option, field in fields.items()] if isinstance(fields, dict) else []


def _described(driver: str, name: str, field: FieldInfo) -> DriverOption:
    alias: Any = field.validation_alias or field.alias or name
    names = [one for one in getattr(alias, "choices", [alias]) if isinstance(one, str)] or [name]
    extra = field.json_schema_extra
    required = field.is_required()
    try:
        default = None if required else field.get_default(call_default_factory=True, validated_data={})
    except Exception as error:  # third-party code may raise anything
        raise DriverContractError(
            f"driver {driver}: the default of its option {name} cannot be made: {type(error).__name__}: {error}"
        ) from error
    return DriverOption(
        name=names[0],
        others=tuple(names[1:]),
        type=_words_of(field.annotation, field.metadata),
        default=default if isinstance(default, (str, int, float, bool)) else None if default is None else str(default),
        required=required,
        unit=str(extra.get("unit", "")) if isinstance(extra, dict) else "",
        description=" ".join((field.description or "").split()),
    )


def _words_of(annotation: Any, metadata: Iterable[Any]) -> str:
    """Return the type of an option in words."""
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = [*metadata, *more]
    kinds = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_words_of(kind, metadata) for kind in kinds)
    if get_origin(annotation) is Literal:
        import json  # lazy: only a description of options needs it

        return " or ".join(json.dumps(one) for one in kinds)
    known = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    name = annotation.__name__ if isinstance(annotation, type) and not kinds else str(annotation)
    words = str(known.get(annotation, name))
    limits = [_limit(one) for item in metadata for one in getattr(item, "metadata", [item])]
    return ", ".join([words, *filter(None, limits)])


def _limit(item: Any) -> str:
    """Return a limit that a model declares, in words; empty for anything else."""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    return next((f"{text} {getattr(item, key)}" for key, text in words.items() if hasattr(item, key)), "")


def _validated(factory: DriverFactory, name: str, options: dict[str, Any], config: StoreConfig) -> Any:
    model = getattr(factory, "Options", None)
    if isinstance(model, str):
        if not options:
            return options
        model = registry.load_options(model, name)
    where = f" (from {config.sources['drivers']})" if config.sources["drivers"] != "default" else ""
    if isinstance(model, type):
        from pydantic import BaseModel, ValidationError

        if issubclass(model, BaseModel):
            try:
                _strict(model).model_validate(options)
                return model.model_validate(options)
            except ValidationError as error:
                from layerstore_core.config.validation import describe_errors

                found = describe_errors(error, what="option", known=model.model_fields)
                raise ConfigError(f"driver {name}: {found}{where}") from error
            except Exception as error:  # third-party validators may raise anything
                raise DriverContractError(
                    f"driver {name}: the model of its options failed: {type(error).__name__}: {error}"
                ) from error
    if options:
        raise ConfigError(f"driver {name} has no options, but was given {', '.join(sorted(options))}{where}")
    return options


def _strict(model: type[BaseModel]) -> type[BaseModel]:
    """Return the model in a form that refuses unknown options, unless the model itself decides about them (`extra`).

    Pydantic ignores unknown fields by default. A driver's author need not know that.
    """
    if "extra" in model.model_config:
        return model
    return type(model.__name__, (model,), {"model_config": {"extra": "forbid"}, "__module__": model.__module__})
