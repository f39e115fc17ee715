"""Progress of `pull` and `push`, on standard error: a line for each blob on a terminal, plain lines, or JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from layerstore_core.cli.output import human_size

if TYPE_CHECKING:
    from layerstore_core.images.remote.events import BlobEvent, BlobProgress

#: Seconds between two updates of a blob's bytes: on a terminal, and in JSON.
_INTERVAL: Final = 0.1
_JSON_INTERVAL: Final = 1.0
_DIGITS: Final = 12
_WORDS: Final = {"exists": "already there", "left": "left out", "elsewhere": "with another process"}


@contextmanager
def of_blobs(*, as_json: bool = False, quiet: bool = False) -> Iterator[BlobProgress | None]:
    """Show the state of each blob on standard error.

    Args:
        as_json: write each event as a line of JSON: `{"event": "blob", …}`.
        quiet: show nothing.

    Yields:
        The function to report to; `None` if nothing is shown.
    """
    if quiet or sys.stderr is None:
        yield None
    elif as_json:
        yield _Lines(_json_line, _JSON_INTERVAL).report
    elif sys.stderr.isatty():
        with _on_terminal() as report:
            yield report
    else:
        yield _Lines(_plain_line, None).report


class _Lines:
    """A writer of lines: one for each new state of a blob, and for its bytes now and then.

    Args:
        line: returns the line for an event; empty for none.
        interval: the seconds between two lines of the bytes of a blob; `None` for no such lines.
    """

    def __init__(self, line: Any, interval: float | None) -> None:
        self._line = line
        self._interval = interval
        self._last: dict[str, tuple[str, float]] = {}

    def report(self, event: BlobEvent) -> None:
        state, when = self._last.get(event.name, ("", 0.0))
        now = monotonic()
        if state == event.state and (self._interval is None or now - when < self._interval):
            return
        self._last[event.name] = event.state, now
        if (line := self._line(event)) and sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)


def _json_line(event: BlobEvent) -> str:
    document = {
        "event": "blob",
        "name": event.name,
        "kind": event.kind,
        "state": event.state,
        "digest": event.digest or None,
        "done": event.done,
        "size": event.size,
    }
    return json.dumps(document)


def _plain_line(event: BlobEvent) -> str:
    from layerstore_core.images.remote.events import LAST

    if event.state not in LAST and event.state != "elsewhere":
        return ""
    size = f"  {human_size(event.size)}" if event.size else ""
    return f"{_short(event.name)}  {event.kind}  {_WORDS.get(event.state, event.state)}{size}"


class _Whole:
    """Counts the bytes that are transferred, of all blobs together; not of those that are there already."""

    def __init__(self) -> None:
        self._blobs: dict[str, tuple[int, int]] = {}

    def count(self, event: BlobEvent) -> tuple[int, int]:
        """Take an event into account; return the bytes that were transferred, and those of all blobs."""
        if event.state in ("exists", "mounted", "left"):
            self._blobs[event.name] = 0, 0
        elif event.state in ("unpacking", "done"):
            self._blobs[event.name] = event.size, event.size
        elif event.state in ("downloading", "uploading"):
            self._blobs[event.name] = event.done, event.size
        else:
            self._blobs.setdefault(event.name, (0, event.size))
        done, sizes = zip(*self._blobs.values(), strict=True)
        return sum(done), sum(sizes)


def _short(name: str) -> str:
    return name.partition(":")[2][:_DIGITS] or name


@contextmanager
def _on_terminal() -> Iterator[BlobProgress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from layerstore_core.images.remote.events import LAST

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    tasks: dict[str, tuple[TaskID, str, float]] = {}
    whole = _Whole()
    # The lines stay: they say what was done with each blob.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as display:
        all_of_them = display.add_task("all", total=None)

        def report(event: BlobEvent) -> None:
            done, total = whole.count(event)
            text = f"{_short(event.name)}  {event.kind:<8}  {_WORDS.get(event.state, event.state):<13}"
            size = event.size or None
            now = monotonic()
            if event.name not in tasks:
                tasks[event.name] = display.add_task(text, total=size), "", 0.0
            task, state, when = tasks[event.name]
            if event.state != state:
                # Another state begins to count its bytes again, and its rate.
                display.reset(task, total=size, completed=event.done, description=text)
            elif now - when < _INTERVAL and event.done != event.size:
                return
            tasks[event.name] = task, event.state, now
            display.update(all_of_them, completed=done, total=total or None)
            display.update(
                task,
                completed=event.size if event.state in LAST else event.done,
                total=size or (1 if event.state in LAST else None),
            )

        yield report
