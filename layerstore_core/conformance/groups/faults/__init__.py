"""Group "faults": calls of the driver fail, the process dies, the disk is full, the power is cut."""

from __future__ import annotations

from typing import ClassVar

from layerstore_core.conformance.groups.faults.calls import CallTests
from layerstore_core.conformance.groups.faults.full_disk import FullDiskTests
from layerstore_core.conformance.groups.faults.inside import InsideTests
from layerstore_core.conformance.groups.faults.power import PowerTests


# pytest collects the tests of the last base class first.
class FaultTests(PowerTests, FullDiskTests, InsideTests, CallTests):
    """Tests of what is left after a fault: all that was committed, and nothing that `gc` does not find."""

    group: ClassVar = "faults"
