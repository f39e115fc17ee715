"""What a driver is made and probed with: its surroundings, and its options, validated by its own model."""

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
    """The surroundings of a driver.

    Args:
        factory: the driver's class, or a function that makes one.
        name: its name; what the driver itself declares goes before.
        config: the root, and the options of drivers. Those that are for any driver are for the one that is named there,
            if there is one.

    Raises:
        ConfigError: an option is unknown to the driver, or cannot be used.
        DriverContractError: its name on disk cannot be one, or the model that it names cannot be imported.
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
    """Log which drivers in the settings are not installed, and look like a misspelt one."""
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
            except Exception as error:  # a stranger's validators may fail in any way
                raise DriverContractError(
                    f"driver {name}: the model of its options failed: {type(error).__name__}: {error}"
                ) from error
    if options:
        raise ConfigError(f"driver {name} has no options, but was given {', '.join(sorted(options))}{where}")
    return options


def _strict(model: type[BaseModel]) -> type[BaseModel]:
    """The model, refusing what it does not know: pydantic's default, which a driver need not know of, is to ignore it."""
    if "extra" in model.model_config:
        return model
    return type(model.__name__, (model,), {"model_config": {"extra": "forbid"}, "__module__": model.__module__})
