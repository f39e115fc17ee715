from typing import ClassVar

from layerstore_core.conformance import DriverConformance


class TestPool(DriverConformance):
    driver: ClassVar = "pool"
