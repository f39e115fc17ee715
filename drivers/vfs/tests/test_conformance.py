"""vfs passes the conformance kit."""

from layerstore_core.conformance import DriverConformance


class TestVfs(DriverConformance):
    driver = "vfs"
