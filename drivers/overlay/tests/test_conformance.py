"""overlay2 passes the conformance kit."""

from layerstore_core.conformance import DriverConformance


class TestOverlay2(DriverConformance):
    driver = "overlay2"
