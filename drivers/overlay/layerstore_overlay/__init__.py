"""The overlay2 driver: each layer has a directory of its own files, and overlayfs merges them into one tree."""

from __future__ import annotations

from typing import Any

from layerstore_overlay.driver import OverlayDriver

__all__ = ["Options", "OverlayDriver"]


def __getattr__(name: str) -> Any:
    """Load the model of the options at its first use: pydantic takes longer to load than everything else."""
    if name == "Options":
        from layerstore_overlay.options import Options

        return Options
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
