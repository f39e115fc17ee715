from layerstore_core.conformance import DriverConformance


class TestTarball(DriverConformance):
    driver = "tarball"
