"""Calls of hooks by pluggy: for drivers with wrappers, and for all that `driver.hooks` does not do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pluggy

from layerstore_core.driver import hookspecs
from layerstore_core.driver.hooks import PROJECT
from layerstore_core.errors import DriverContractError
from layerstore_core.log import logger, wants_details


def make_plugins(
    driver: str, instance: object, fallback: object, wrappers: Iterable[tuple[str, object]]
) -> pluggy.PluginManager:
    """Return the plugin manager of a driver. It logs calls if messages of level DEBUG are shown.

    Args:
        driver: the driver's name on disk.
        instance: the driver.
        fallback: answers what the driver and the wrappers do not.
        wrappers: plugins that wrap the driver's hooks, each with its name.

    Raises:
        DriverContractError: a plugin has a hook that cannot be called.
    """
    plugins = _Plugins(PROJECT)
    plugins.add_hookspecs(hookspecs)
    _register(plugins, instance, f"driver {driver}")
    plugins.register(fallback, "fallback")
    for name, wrapper in wrappers:
        _register(plugins, wrapper, name)
    if wants_details():
        _log_calls(plugins, driver)
    return plugins


def _register(plugins: pluggy.PluginManager, plugin: Any, name: str) -> None:
    try:
        plugins.register(plugin, name)
        # Without this check, an unknown hook or a misspelt argument would be found late or never.
        plugins.check_pending()
    except pluggy.PluginValidationError as error:
        raise DriverContractError(f"{name} does not follow the contract for drivers: {error}") from error


class _Plugins(pluggy.PluginManager):
    """The hooks of a driver. More than half of an object's attributes are Python's own, and no hooks.

    pluggy's search in them took a fifth of opening a store.
    """

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)


def _log_calls(plugins: pluggy.PluginManager, driver: str) -> None:
    """Log each call of a hook: its IDs and labels, its time in seconds, and its error or the size that it returns."""
    calls = threading.local()

    def before(hook: str, methods: object, arguments: Mapping[str, Any]) -> None:
        calls.began = [*getattr(calls, "began", ()), time.monotonic()]  # a hook may call another one

    def after(outcome: pluggy.Result[Any], hook: str, methods: object, arguments: Mapping[str, Any]) -> None:
        *calls.began, start = calls.began
        words = [value for value in arguments.values() if isinstance(value, str) and value]
        end = ""
        if outcome.exception is not None:
            end = f": {type(outcome.exception).__name__}: {outcome.exception}"
        elif type(outcome.get_result()) is int:
            end = f": {outcome.get_result()} bytes"
        logger.debug("driver {}: {} {} in {:.4f} s{}", driver, hook, " ".join(words), time.monotonic() - start, end)

    plugins.add_hookcall_monitoring(before, after)
