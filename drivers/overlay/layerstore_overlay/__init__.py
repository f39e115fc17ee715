"""The overlay2 driver: every layer keeps its own files, and overlayfs shows them as one tree."""

from layerstore_overlay.driver import OverlayDriver

__all__ = ["OverlayDriver"]
