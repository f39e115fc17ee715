"""Run a command again whenever a driver's package changes, until Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from layerstore_core.base.plugins import DRIVERS, installed_entry_points
from layerstore_core.errors import ConfigError, DriverNotFound


def run_at_each_change(command: Sequence[str], places: Sequence[Path], say: Callable[[str], object]) -> int:
    """Run a command now and after each change of a Python file, until this process is interrupted.

    Args:
        command: the command, as for `subprocess`.
        places: the directories and files to watch.
        say: shows a line to the user.

    Returns:
        The exit code of the last run.

    Raises:
        ConfigError: watchfiles is not installed.
        KeyboardInterrupt: the interrupt came during a run, which has ended then.
    """
    try:
        from watchfiles import PythonFilter, watch
    except ImportError as error:
        raise ConfigError(
            "--watch needs watchfiles, which is not installed: pip install 'layerstore-core[conformance-tools]'"
        ) from error
    code = _run(command)
    where = ", ".join(map(str, places))
    say(f"waiting for a change in {where}; Ctrl-C ends")
    try:
        for _ in watch(*places, watch_filter=PythonFilter(extra_extensions=[".toml", ".json"])):
            code = _run(command)
            say(f"waiting for a change in {where}; Ctrl-C ends")
    except KeyboardInterrupt:
        say("ended")
    return code


def places_of(driver: str) -> list[Path]:
    """Return the directory of a driver's package, or its module. Nothing of it is imported.

    Raises:
        DriverNotFound: there is no such driver, or it has no files.
    """
    for point in installed_entry_points(DRIVERS):
        if point.name != driver:
            continue
        spec = importlib.util.find_spec(point.module.partition(".")[0])
        names = [] if spec is None else spec.submodule_search_locations or [spec.origin or ""]
        if found := [Path(name) for name in names if os.path.exists(name)]:
            return found
        raise DriverNotFound(f"driver {driver!r} has no files to watch: its module {point.module} is not found")
    raise DriverNotFound(f"no driver {driver!r} is installed: there is nothing to watch")


def _run(command: Sequence[str]) -> int:
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except BaseException:
        # Ctrl-C in a terminal has reached the process as well, which ignores a second signal.
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
