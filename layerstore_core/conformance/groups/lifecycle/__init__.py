"""Group "lifecycle": layers are created, mounted, unmounted and removed."""

from __future__ import annotations

from typing import ClassVar

from layerstore_core.conformance.groups.lifecycle.home import HomeTests
from layerstore_core.conformance.groups.lifecycle.layers import LayerTests
from layerstore_core.conformance.groups.lifecycle.mounted import MountedTests


# pytest collects the tests of the last base class first.
class LifecycleTests(HomeTests, MountedTests, LayerTests):
    """Tests of `create`, `create_read_write`, `exists`, `get`, `put` and `remove`: once, twice, and out of order."""

    group: ClassVar = "lifecycle"
