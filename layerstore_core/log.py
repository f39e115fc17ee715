"""Logging: through loguru, and silent until a program asks for it.

Every module that logs imports `logger` from here. loguru takes longer to load than a small layer to be read, so that is
done when the first message comes that somebody is to hear, or when a program imports loguru itself. In that moment
it is switched off for this package, before anybody can say otherwise; drivers' packages are switched off when they
are loaded. A program that wants to hear calls `enable`; the command line calls `configure`.
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
#: The logger's methods by which nothing is said but a message, and those of them that `configure(0)` does not let through.
_MESSAGES: Final = frozenset({"trace", "debug", "info", "success", "warning", "error", "critical", "exception", "log"})
_QUIET: Final = frozenset({"trace", "debug", "info", "success"})

_packages = {"layerstore_core"}
_enabled = False
#: Whether messages of level DEBUG may be heard.
_details = False
#: loguru's, once it is there and switched off for our packages.
_logger: Logger | None = None
#: What is to be done to it then.
_configuration: Callable[[Logger], object] | None = None


def enable() -> None:
    """Let the messages of this package, and of drivers loaded now or later, through to loguru's sinks."""
    global _details
    _details = True
    _enable_packages(_loaded())


def wants_details() -> bool:
    """Tell whether a message of level DEBUG may be heard: what prepares such messages asks first."""
    return _details


def configure(verbosity: int = 0, *, json: bool = False) -> None:
    """Send the messages to standard error, and loguru's other sinks away: for a program of its own.

    Args:
        verbosity: 0 shows warnings and errors, 1 what is done, 2 and more every step.
        json: write each message as one line of JSON.
    """
    global _configuration, _details
    _details = verbosity > 1

    def apply(real: Logger) -> None:
        form = _DETAILED if verbosity else _SHORT

        def line(record: Record) -> str:
            # A format given as a function is used as it stands: no traceback is added to a short message.
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
        _configuration = apply  # there may be nothing to warn of
    else:
        apply(_loaded())


def silence() -> None:
    """Undo `enable` and `configure`."""
    global _configuration, _details, _enabled
    _configuration = None
    _details = _enabled = False
    real = _loaded()
    real.remove()
    for package in _packages:
        real.disable(package)


def driver_logger(driver: str, package: str) -> Logger:
    """The logger for a driver, silent or heard as this package's is.

    Args:
        driver: the driver's name, which its messages carry.
        package: the top-level package that it comes from; loguru switches by package.
    """
    # A program's own modules may hold a driver (a test does): what it logs itself stays its own affair.
    if package == "__main__":
        return _loaded().bind(driver=driver)
    if package not in _packages:
        _packages.add(package)
        if _logger is not None and not _enabled:
            _logger.disable(package)
    return cast("Logger", _LoggerWhenNeeded(driver=driver))


class _LoggerWhenNeeded:
    """Stands for loguru's logger, and loads it for the first message that is to be heard.

    It gives the methods of loguru's own: it never stands between these and who calls them, whose module's name they need.

    Args:
        extra: what the logger is bound with.
    """

    def __init__(self, **extra: str) -> None:
        self._extra = extra
        self._bound: Logger | None = None

    def __repr__(self) -> str:
        return f"<the logger of layerstore, with {self._extra}>" if self._extra else "<the logger of layerstore>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what copying and the like look for, before there is anything
            raise AttributeError(name)
        if (
            name in (_MESSAGES if _configuration is None else _QUIET)
            and _logger is None
            and "loguru" not in sys.modules
        ):
            return _say_nothing
        if self._bound is None:
            self._bound = _loaded().bind(**self._extra) if self._extra else _loaded()
        return getattr(self._bound, name)


def _enable_packages(real: Logger) -> None:
    global _enabled
    _enabled = True
    for package in _packages:
        real.enable(package)


def _say_nothing(*args: object, **kwargs: object) -> None:
    pass


def _loaded() -> Logger:
    """The logger of loguru, which is loaded if it was not."""
    from loguru import logger

    if _logger is None:
        _take(logger)
    return logger


def _take(real: Logger) -> None:
    """Make loguru's logger what has been asked of it before it was there."""
    global _configuration, _logger
    _logger = real
    configuration, _configuration = _configuration, None
    if configuration is not None:
        configuration(real)
    elif not _enabled:
        for package in _packages:
            real.disable(package)


class _WhenImported:
    """A finder of modules (`sys.meta_path`) that has `_take` called when loguru is imported, by whomever.

    It stays there: to take it out would disturb other threads that import something.
    """

    _asking_others = False

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "loguru" or self._asking_others or _logger is not None:
            return None
        import importlib.util

        self._asking_others = True  # no other thread asks for it: the import of a module is locked
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking_others = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_take(module: ModuleType) -> None:
                execute(module)
                _take(module.logger)

            spec.loader.exec_module = execute_and_take  # type: ignore[method-assign]
        return spec


#: For this package's modules.
logger: Final = cast("Logger", _LoggerWhenNeeded())

if "loguru" in sys.modules:
    _loaded()
else:
    sys.meta_path.insert(0, _WhenImported())
