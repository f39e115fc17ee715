from layerstore_core.conformance import DriverConformance


class TestFuseOverlayfs(DriverConformance):
    driver = "fuse-overlayfs"
