"""The overlay2 driver: every layer keeps its own files, and overlayfs shows them as one tree."""

from layerstore_overlay.driver import OverlayDriver
from layerstore_overlay.options import Options

__all__ = ["Options", "OverlayDriver"]
