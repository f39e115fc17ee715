"""Recording at the same time as the tar is read and its files are made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from layerstore_core.base.threads import Lane
from layerstore_core.tar.entry import TarEntry
from layerstore_core.tar.run import Run
from layerstore_core.tarsplit.record import Recorder

#: So many calls, or calls with so many bytes, are put into the lane at once: to put one costs as much as a small call.
_CALLS: Final = 64
_BYTES: Final = 1 << 19


class RecorderLane:
    """Listener of a layer stream that calls a recorder in a lane, in order.

    The record of a small layer is written when the layer ends, without a thread.

    Args:
        recorder: records the layer.
        lane: where it does that. Its owner closes it.
    """

    def __init__(self, recorder: Recorder, lane: Lane) -> None:
        self._recorder = recorder
        self._lane = lane
        self._calls: list[Callable[[], None]] = []
        self._size = 0
        self._uses_lane = False

    def segment(self, data: bytes) -> None:
        """Record raw bytes."""
        self._add(partial(self._recorder.segment, data), len(data))

    def run(self, run: Run) -> None:
        """Record a run."""
        self._add(partial(self._recorder.run, run), run.size)

    def begin_entry(self, entry: TarEntry) -> None:
        """Decide where the entry's payload is kept."""
        self._add(partial(self._recorder.begin_entry, entry), 0)

    def payload(self, chunk: memoryview) -> None:
        """Record a piece of the payload."""
        self._add(partial(self._recorder.payload, chunk), len(chunk))

    def end_entry(self) -> None:
        """Record the entry, now that its checksum is known."""
        self._add(self._recorder.end_entry, 0)

    def end(self) -> None:
        """Finish the lines at the end of the tar, and wait until they are written."""
        self._add(self._recorder.end, 0)
        if not self._uses_lane:
            _make(self._calls)
            return
        self._put()
        self._lane.drain()

    def _add(self, call: Callable[[], None], size: int) -> None:
        """Add a call that refers to so many bytes."""
        self._calls.append(call)
        self._size += size
        if self._size >= _BYTES or len(self._calls) >= _CALLS:
            self._put()

    def _put(self) -> None:
        self._uses_lane = True
        calls, self._calls, self._size = self._calls, [], 0
        self._lane.put(partial(_make, calls))


def _make(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()
