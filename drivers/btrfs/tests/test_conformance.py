"""btrfs passes the conformance kit, on a file system of its own."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from layerstore_core.conformance import DriverConformance
from tests.driver_roots import btrfs_file_system, why_not


class TestBtrfs(DriverConformance):
    driver = "btrfs"

    @contextmanager
    def make_root(self, tmp_path_factory):
        if reason := why_not("btrfs"):
            pytest.skip(reason)
        with btrfs_file_system() as root:
            yield root
