"""Progress on a terminal: bytes, rate and entries. If standard error is no terminal, nothing is shown or imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from layerstore_core.cli.output import human_size

#: The function that the store calls with two counts: bytes and entries, or items done and items in all.
Report = Callable[[int, int], None]

#: Seconds between two updates; the store reports far more often than an eye can follow.
_INTERVAL: Final = 0.05


@contextmanager
def of_bytes(what: str) -> Iterator[Report | None]:
    """Show the number of bytes and tar entries on standard error, if that is a terminal.

    Args:
        what: the label, such as "Registering".

    Yields:
        The function to report to, or `None` if standard error is no terminal.
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
    """Show how many layers of all are done; arguments and result as for `of_bytes`."""
    with _shown(what, lambda done, total: f"{done} of {total} layers") as report:
        yield report


@contextmanager
def of_each_layer() -> Iterator[Callable[[str, int], Report] | None]:
    """Show a line with a bar for each layer that is read, on standard error, if that is a terminal.

    Yields:
        A function that takes a layer's name and the size of its file in bytes, and returns the function to report
        to; `None` if standard error is no terminal.
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
    """Show a line with `what` and the text that `status` makes of the two counts."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    # Text that others write to standard error meanwhile, such as log lines, appears above the progress line.
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
