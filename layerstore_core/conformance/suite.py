"""All groups together: the class that test authors subclass."""

from __future__ import annotations

from typing import Final

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.groups.capabilities import CapabilityTests
from layerstore_core.conformance.groups.concurrency import ConcurrencyTests
from layerstore_core.conformance.groups.content import ContentTests
from layerstore_core.conformance.groups.diffs import DiffTests
from layerstore_core.conformance.groups.faults import FaultTests
from layerstore_core.conformance.groups.lifecycle import LifecycleTests
from layerstore_core.conformance.groups.limits import LimitTests
from layerstore_core.conformance.groups.mounts import MountTests
from layerstore_core.conformance.groups.restart import RestartTests
from layerstore_core.conformance.groups.sizes import SizeTests
from layerstore_core.conformance.groups.snapshots import SnapshotTests
from layerstore_core.conformance.groups.speed import SpeedTests
from layerstore_core.conformance.groups.stateful import ModelTests
from layerstore_core.conformance.groups.streams import StreamTests


class DriverConformance(
    LifecycleTests,
    ContentTests,
    SnapshotTests,
    DiffTests,
    SizeTests,
    StreamTests,
    RestartTests,
    MountTests,
    ConcurrencyTests,
    FaultTests,
    LimitTests,
    CapabilityTests,
    ModelTests,
    SpeedTests,
):
    """All that the contract demands of a driver. Subclass it and name the driver.

    The attributes `driver`, `options` and `factory`, and the method `make_root`, may be overridden. The base classes
    are the groups, in the order in which a driver's author should repair failures.
    """


#: Each group's tests by the group's name, in the order of the base classes.
GROUPS: Final[dict[str, type[ConformanceTests]]] = {
    tests.group: tests for tests in DriverConformance.__bases__ if issubclass(tests, ConformanceTests)
}
