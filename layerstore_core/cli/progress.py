"""Progress on a terminal: bytes, rate and entries. Elsewhere there is none, and nothing is imported for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from layerstore_core.cli.output import human_size

#: What the store calls, with two counts: bytes and entries, or things done and things to do.
Report = Callable[[int, int], None]

#: Seconds between two updates; the store reports far more often than an eye can follow.
_INTERVAL: Final = 0.05


@contextmanager
def of_bytes(what: str) -> Iterator[Report | None]:
    """Show on standard error how many bytes and tar entries `what` has come to, if that is a terminal.

    Yields:
        The function to report to, or `None` where nobody watches.
    """
    begun = monotonic()

    def status(size: int, entries: int) -> str:
        seconds = monotonic() - begun
        parts = [human_size(size), f"{human_size(int(size / seconds)) if seconds else '?'}/s"]
        return "  ".join([*parts, f"{entries} {'entry' if entries == 1 else 'entries'}"] if entries else parts)

    with _shown(what, status) as report:
        yield report


@contextmanager
def of_layers(what: str) -> Iterator[Report | None]:
    """Show on standard error how many of the layers `what` has done; otherwise as `of_bytes`."""
    with _shown(what, lambda done, total: f"{done} of {total} layers") as report:
        yield report


@contextmanager
def of_each_layer() -> Iterator[Callable[[str, int], Report] | None]:
    """Show on standard error a line for each layer that is read, with a bar, if that is a terminal.

    Yields:
        What makes the function to report to, for a layer's name and the size of its file; `None` where nobody watches.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as display:

        def begin(name: str, size: int) -> Report:
            task = display.add_task(name.partition(" (")[0], total=size)
            return lambda read, _entries: display.update(task, completed=read)

        yield begin


@contextmanager
def _shown(what: str, status: Callable[[int, int], str]) -> Iterator[Report | None]:
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    # What others write to standard error meanwhile, log lines above all, goes above the progress.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as display:
        task = display.add_task(what, total=None)
        last = 0.0

        def report(first: int, second: int) -> None:
            nonlocal last
            now = monotonic()
            if now - last >= _INTERVAL:
                last = now
                display.update(task, description=f"{what}  {status(first, second)}")

        yield report
