"""The metrics of the snapshotter for Prometheus: its calls, how long they took, and how many snapshots there are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from layerstore_core import SnapshotKind, Snapshots
from layerstore_core.sdk import while_doing

#: Upper limits of the classes of durations, in seconds: from a look into the database to the copy of a large layer.
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@dataclass
class Outcome:
    """How a call has ended: the name of its status code."""

    code: str = "OK"


class Metrics:
    """The figures of one server.

    Args:
        snapshots: what is served. They are counted each time that Prometheus asks.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        #: The figures, for `prometheus_client`.
        self.registry: Final = CollectorRegistry()
        self._calls = CounterMetric(
            "layerstore_snapshotter_calls",
            "Calls that have ended, by name and by gRPC's status code.",
            ["call", "code"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "layerstore_snapshotter_call_seconds",
            "How long calls took until their answer was ready.",
            ["call"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._running = Gauge(
            "layerstore_snapshotter_running_calls", "Calls that are being answered.", ["call"], registry=self.registry
        )
        self.registry.register(_SnapshotCounts(snapshots))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    @contextmanager
    def observing(self, call: str) -> Iterator[Outcome]:
        """Count a call, and take its time; the block notes how it has ended."""
        outcome = Outcome()
        started = time.perf_counter()
        running = self._running.labels(call)
        running.inc()
        try:
            yield outcome
        finally:
            running.dec()
            self._seconds.labels(call).observe(time.perf_counter() - started)
            self._calls.labels(call, outcome.code).inc()

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Answer to Prometheus, by HTTP, in a thread of its own.

        Args:
            host: the address to listen at.
            port: the port; 0 for any free one.

        Returns:
            A function that ends it.

        Raises:
            OSError: the address cannot be used.
        """
        with while_doing(f"opening the address of --metrics, {host} port {port}"):
            server, thread = start_http_server(port, host, self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


class _SnapshotCounts(Collector):
    """Counts the snapshots of each kind.

    Args:
        snapshots: what is counted.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def describe(self) -> Iterable[Metric]:
        """Say what there will be, without counting."""
        yield self._family()

    def collect(self) -> Iterable[Metric]:
        """Count."""
        counts = Counter(snapshot.kind for snapshot in self._snapshots.walk())
        family = self._family()
        for kind in SnapshotKind:
            family.add_metric([kind.value], counts[kind])
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily("layerstore_snapshotter_snapshots", "Snapshots, by their kind.", labels=["kind"])
