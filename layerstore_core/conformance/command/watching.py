"""Run a command again whenever a driver's package changes, until Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from layerstore_core.base.plugins import DRIVERS, installed_entry_points
from layerstore_core.errors import ConfigError, DriverNotFound

#: An editor writes several files, or one in several steps: they are one change. In seconds.
_SETTLING: Final = 0.2


def run_at_each_change(command: Sequence[str], places: Sequence[Path], say: Callable[[str], object]) -> int:
    """Run a command now and after each change of a file, until this process is interrupted.

    Args:
        command: the command, as for `subprocess`.
        places: the directories to watch.
        say: shows a line to the user.

    Returns:
        The exit code of the last run.

    Raises:
        ConfigError: watchdog is not installed.
        KeyboardInterrupt: the interrupt came during a run, which has ended then.
    """
    try:
        from watchdog.events import PatternMatchingEventHandler
        from watchdog.observers import Observer
    except ImportError as error:
        raise ConfigError(
            "--watch needs watchdog, which is not installed: pip install 'layerstore-core[conformance-tools]'"
        ) from error
    changed = threading.Event()
    handler = PatternMatchingEventHandler(patterns=["**/*.py", "**/*.toml"])
    for kind in ("modified", "created", "moved", "deleted"):  # not: opened, or closed
        setattr(handler, f"on_{kind}", lambda _: changed.set())
    observer = Observer()
    for place in places:
        observer.schedule(handler, str(place), recursive=True)
    observer.start()
    try:
        while True:
            changed.clear()  # before the run: what changes meanwhile is tested next
            code = _run(command)
            say(f"waiting for a change in {', '.join(map(str, places))}; Ctrl-C ends")
            try:
                changed.wait()
                time.sleep(_SETTLING)
            except KeyboardInterrupt:
                say("ended")
                return code
    finally:
        observer.stop()
        observer.join()


def places_of(driver: str) -> list[Path]:
    """Return the directories of a driver's package, or that of its module. Nothing of it is imported.

    Raises:
        DriverNotFound: there is no such driver, or it has no files.
    """
    for point in installed_entry_points(DRIVERS):
        if point.name != driver:
            continue
        spec = importlib.util.find_spec(point.module.partition(".")[0])
        names = [] if spec is None else spec.submodule_search_locations or [os.path.dirname(spec.origin or "")]
        if found := [Path(name) for name in names if os.path.isdir(name)]:
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
