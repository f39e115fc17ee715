"""Logging: through loguru, and silent until a program asks for it.

Every module that logs imports `logger` from here, so that loguru is loaded only by what needs it, and
is switched off for this package before the first message. Drivers' packages are switched off when
they are loaded. A program that wants to hear calls `enable`; the command line calls `configure`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from loguru import logger

if TYPE_CHECKING:
    from loguru import Logger

__all__ = ["configure", "driver_logger", "enable", "logger"]

_LEVELS: Final = ("WARNING", "INFO", "DEBUG")
_SHORT: Final = "<level>{level.name}</level>: {message}\n"
_DETAILED: Final = "{time:HH:mm:ss.SSS} <level>{level.name}</level> {name}: {message}\n{exception}"

_packages = {"layerstore_core"}
_enabled = False

logger.disable("layerstore_core")


def enable() -> None:
    """Let the messages of this package, and of drivers loaded now or later, through to loguru's sinks."""
    global _enabled
    _enabled = True
    for package in _packages:
        logger.enable(package)


def configure(verbosity: int = 0, *, json: bool = False) -> None:
    """Send the messages to standard error, and loguru's other sinks away: for a program of its own.

    Args:
        verbosity: 0 shows warnings and errors, 1 what is done, 2 and more every step.
        json: write each message as one line of JSON.
    """
    form = _DETAILED if verbosity else _SHORT
    logger.remove()
    logger.add(
        lambda message: print(message, end="", file=sys.stderr),
        level=_LEVELS[min(max(verbosity, 0), len(_LEVELS) - 1)],
        # A format given as a function is used as it stands: no traceback is added to a short message.
        format=lambda _: form,
        serialize=json,
        colorize=not json and sys.stderr.isatty(),
        backtrace=False,
        diagnose=False,
    )
    enable()


def silence() -> None:
    """Undo `enable` and `configure`."""
    global _enabled
    _enabled = False
    logger.remove()
    for package in _packages:
        logger.disable(package)


def driver_logger(driver: str, package: str) -> Logger:
    """The logger for a driver, silent or heard as this package's is.

    Args:
        driver: the driver's name, which its messages carry.
        package: the top-level package that it comes from; loguru switches by package.
    """
    # A program's own modules may hold a driver (a test does): what it logs itself stays its own affair.
    if package != "__main__" and package not in _packages:
        _packages.add(package)
        if not _enabled:
            logger.disable(package)
    return logger.bind(driver=driver)
