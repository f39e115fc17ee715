from layerstore_core.conformance import DriverConformance


class TestErofs(DriverConformance):
    driver = "erofs"
