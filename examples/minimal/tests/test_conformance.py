from layerstore_core.conformance import DriverConformance


class TestMinimal(DriverConformance):
    driver = "minimal"
