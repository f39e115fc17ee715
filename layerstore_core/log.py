"""Logging: through loguru, and silent until a program enables it.

Every module that logs imports `logger` from here. It takes longer to import loguru than to read a small layer. So
loguru is imported for the first message that is enabled, or when a program imports loguru itself. At that moment,
messages of this package are disabled, before other code can enable them. Messages of a driver's package are disabled
when it is loaded. A program that wants the messages calls `enable`; the command line calls `configure`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from loguru import Logger, Record

from layerstore_core.text import printable

__all__ = ["configure", "driver_logger", "enable", "logger", "wants_details"]

_LEVELS: Final = ("WARNING", "INFO", "DEBUG")
_SHORT: Final = "<level>{level.name}</level>: {message}\n"
_DETAILED: Final = "{time:HH:mm:ss.SSS} <level>{level.name}</level> {name}: {message}\n{exception}"
#: The methods of the logger that only log a message, and those of them that `configure(0)` does not show.
_MESSAGES: Final = frozenset({"trace", "debug", "info", "success", "warning", "error", "critical", "exception", "log"})
_QUIET: Final = frozenset({"trace", "debug", "info", "success"})

_packages = {"layerstore_core"}
_enabled = False
#: Whether messages of level DEBUG may be shown.
_details = False
#: loguru's logger, once it is imported and configured for this package and the drivers'.
_logger: Logger | None = None
#: A configuration to apply when loguru is imported.
_configuration: Callable[[Logger], object] | None = None


def enable() -> None:
    """Enable the messages of this package, and of drivers that are loaded now or later, for loguru's sinks."""
    global _details
    _details = True
    _enable_packages(_load())


def wants_details() -> bool:
    """Return whether a message of level DEBUG may be shown. Code that prepares such messages checks this first."""
    return _details


def configure(verbosity: int = 0, *, json: bool = False) -> None:
    """Send the messages to standard error, and remove loguru's other sinks: for a program like the command line.

    Args:
        verbosity: 0 for warnings and errors, 1 also for what is done, 2 and more for every step.
        json: whether to write each message as one line of JSON.
    """
    global _configuration, _details
    _details = verbosity > 1

    def apply(real: Logger) -> None:
        form = _DETAILED if verbosity else _SHORT

        def line(record: Record) -> str:
            # loguru does not change a format that is a function: it adds no traceback to a short message.
            record["message"] = printable(record["message"], backslash=False)
            return form

        real.remove()
        real.add(
            lambda message: print(message, end="", file=sys.stderr),
            level=_LEVELS[min(max(verbosity, 0), len(_LEVELS) - 1)],
            format=line,
            serialize=json,
            colorize=not json and sys.stderr.isatty(),
            backtrace=False,
            diagnose=False,
        )
        _enable_packages(real)

    if verbosity <= 0 and _logger is None and "loguru" not in sys.modules:
        _configuration = apply  # there may be no warning at all, so loguru is not imported yet
    else:
        apply(_load())


def silence() -> None:
    """Undo `enable` and `configure`."""
    global _configuration, _details, _enabled
    _configuration = None
    _details = _enabled = False
    real = _load()
    real.remove()
    for package in _packages:
        real.disable(package)


def driver_logger(driver: str, package: str) -> Logger:
    """Return the logger for a driver. It is enabled and disabled together with this package's.

    Args:
        driver: the driver's name. Its messages have it as an extra value.
        package: the top-level package of the driver. loguru enables and disables messages by package.
    """
    # A driver may be in a program's own modules, as in a test. The program's own messages must not be disabled.
    if package == "__main__":
        return _load().bind(driver=driver)
    if package not in _packages:
        _packages.add(package)
        if _logger is not None and not _enabled:
            _logger.disable(package)
    return cast("Logger", _LazyLogger(driver=driver))


class _LazyLogger:
    """A stand-in for loguru's logger that imports loguru for the first message that is enabled.

    It returns the methods of loguru's logger itself, and does not wrap them: they need the name of the calling module.

    Args:
        extra: the extra values to which the logger is bound.
    """

    def __init__(self, **extra: str) -> None:
        self._extra = extra
        self._bound: Logger | None = None

    def __repr__(self) -> str:
        return f"<the logger of layerstore, with {self._extra}>" if self._extra else "<the logger of layerstore>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying looks for such names before `__init__` has run
            raise AttributeError(name)
        if (
            name in (_MESSAGES if _configuration is None else _QUIET)
            and _logger is None
            and "loguru" not in sys.modules
        ):
            return _discard_message
        if self._bound is None:
            self._bound = _load().bind(**self._extra) if self._extra else _load()
        return getattr(self._bound, name)


def _enable_packages(real: Logger) -> None:
    global _enabled
    _enabled = True
    for package in _packages:
        real.enable(package)


def _discard_message(*args: object, **kwargs: object) -> None:
    pass


def _load() -> Logger:
    """Import loguru if necessary, and return its logger."""
    from loguru import logger

    if _logger is None:
        _configure_loaded(logger)
    return logger


def _configure_loaded(real: Logger) -> None:
    """Apply to loguru's logger what was requested before it was imported."""
    global _configuration, _logger
    _logger = real
    configuration, _configuration = _configuration, None
    if configuration is not None:
        configuration(real)
    elif not _enabled:
        for package in _packages:
            real.disable(package)


class _ImportHook:
    """A module finder (in `sys.meta_path`) that calls `_configure_loaded` when any code imports loguru.

    It is never removed, because that would disturb imports in other threads.
    """

    _is_searching = False

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "loguru" or self._is_searching or _logger is not None:
            return None
        import importlib.util

        self._is_searching = True  # no other thread searches for it: the import of a module is locked
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._is_searching = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_configure(module: ModuleType) -> None:
                execute(module)
                _configure_loaded(module.logger)

            spec.loader.exec_module = execute_and_configure  # type: ignore[method-assign]
        return spec


#: The logger for this package's modules.
logger: Final = cast("Logger", _LazyLogger())

if "loguru" in sys.modules:
    _load()
else:
    sys.meta_path.insert(0, _ImportHook())
