"""The context that a driver is created and probed with, with options that its own model has validated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerstore_core.base.plugins import DRIVERS, entry_point_names
from layerstore_core.config.sources import ANY_DRIVER, did_you_mean
from layerstore_core.driver import registry
from layerstore_core.driver.context import DriverContext
from layerstore_core.errors import ConfigError, DriverContractError
from layerstore_core.log import driver_logger, logger

if TYPE_CHECKING:
    from pydantic import BaseModel

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
    """
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
