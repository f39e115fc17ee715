"""Drivers that a server in another process serves pass the conformance kit."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from layerstore_core.conformance import DriverConformance
from tests.driver_roots import btrfs_file_system, why_not

from .served import ServedDriver


class ServedConformance(DriverConformance):
    """The kit for a driver that is served. Subclasses name it."""

    __test__ = False
    driver = "remote"
    served = ""

    @pytest.fixture(autouse=True)
    def servers(self, farm):
        """Have a server for each root of a test, and end them all after it."""
        if reason := why_not(self.served):
            pytest.skip(reason)
        type(self).factory = staticmethod(ServedDriver(farm, self.served))
        yield
        farm.end_all()


class TestVfs(ServedConformance):
    __test__ = True
    served = "vfs"


class TestOverlay2(ServedConformance):
    __test__ = True
    served = "overlay2"


class TestMinimal(ServedConformance):
    __test__ = True
    served = "minimal"


class TestBtrfs(ServedConformance):
    __test__ = True
    served = "btrfs"

    @contextmanager
    def make_root(self, tmp_path_factory):
        if reason := why_not("btrfs"):
            pytest.skip(reason)
        with btrfs_file_system() as root:
            yield root
