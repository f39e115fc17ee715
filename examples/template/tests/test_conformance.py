from layerstore_core.conformance import DriverConformance


class TestChangeme(DriverConformance):
    driver = "changeme"

    # Options for the driver in these tests:
    # options = {"key": "value"}

    # Where the driver needs a file system of its own, make it here (a context manager that yields a directory):
    # def make_root(self, tmp_path_factory): ...
