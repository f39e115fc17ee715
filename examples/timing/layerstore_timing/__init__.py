"""A wrapper around a driver, which records the duration of each of the driver's calls as Prometheus text.

It is found by an entry point in the group `layerstore.wrappers`, and wraps the driver in use. It does nothing unless
the environment names a file, for example `LAYERSTORE_TIMING_FILE=/var/lib/node_exporter/layerstore.prom`.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Generator
from typing import Any, Final

from layerstore_core import hookimpl

#: The variable that names the file to write.
VARIABLE: Final = "LAYERSTORE_TIMING_FILE"
#: Upper bounds of the histogram, in seconds.
BOUNDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
HOOKS: Final = (
    "create",
    "create_read_write",
    "remove",
    "get",
    "put",
    "exists",
    "cleanup",
    "apply_diff",
    "diff",
    "changes",
    "diff_size",
    "usage",
    "diff_getter",
    "mounts",
    "seal",
)
_METRIC: Final = "layerstore_driver_call_seconds"


class Histogram:
    """A histogram of the durations of one hook."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.failures = 0

    def observe(self, seconds: float, *, failed: bool) -> None:
        """Add one call."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        self.failures += failed


class Timing:
    """The wrapper plugin; the store makes one instance.

    Args:
        path: the file to write; `None`: the file that the environment names.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path if path is not None else os.environ.get(VARIABLE, "")
        self._lock = threading.Lock()
        self._histograms: dict[str, Histogram] = {}
        if self._path:
            atexit.register(self.write)

    def observe(self, hook: str, seconds: float, *, failed: bool) -> None:
        """Add one call of the driver."""
        with self._lock:
            self._histograms.setdefault(hook, Histogram()).observe(seconds, failed=failed)

    def exposition(self) -> str:
        """Return the histograms in Prometheus' text format, version 0.0.4."""
        with self._lock:
            lines = [f"# HELP {_METRIC} How long calls of the storage driver took.", f"# TYPE {_METRIC} histogram"]
            for hook, histogram in sorted(self._histograms.items()):
                total = 0
                for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.counts, strict=True):
                    total += count
                    lines.append(f'{_METRIC}_bucket{{call="{hook}",le="{bound}"}} {total}')
                lines.append(f'{_METRIC}_sum{{call="{hook}"}} {histogram.seconds:.6f}')
                lines.append(f'{_METRIC}_count{{call="{hook}"}} {total}')
            failures = "layerstore_driver_call_failures_total"
            lines += [f"# HELP {failures} How many calls raised an error.", f"# TYPE {failures} counter"]
            lines += [f'{failures}{{call="{hook}"}} {one.failures}' for hook, one in sorted(self._histograms.items())]
        return "\n".join(lines) + "\n"

    def write(self) -> None:
        """Replace the file atomically, so that a reader never sees a part of it."""
        import tempfile  # lazy: the wrapper is loaded by each command, and most write nothing

        directory = os.path.dirname(os.path.abspath(self._path))
        descriptor, scratch = tempfile.mkstemp(dir=directory, prefix=".layerstore-timing-")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(self.exposition())
            os.chmod(scratch, 0o644)
            os.replace(scratch, self._path)
        except BaseException:
            os.unlink(scratch)
            raise


def _timed(hook: str) -> Callable[[Timing], Generator[None, Any, Any]]:
    """Return a wrapper method for a hook."""

    @hookimpl(wrapper=True)
    def timed(self: Timing) -> Generator[None, Any, Any]:
        if not self._path:
            return (yield)
        start = time.perf_counter()
        failed = True
        try:
            result = yield
            failed = False
            return result
        finally:
            self.observe(hook, time.perf_counter() - start, failed=failed)

    return timed


for _hook in HOOKS:
    setattr(Timing, _hook, _timed(_hook))
