"""The overlay2 driver: every layer keeps its own files, and overlayfs shows them as one tree."""

from __future__ import annotations

from typing import Any

from layerstore_overlay.driver import OverlayDriver

__all__ = ["Options", "OverlayDriver"]


def __getattr__(name: str) -> Any:
    """The model of the options, loaded when it is asked for: pydantic takes longer to load than all else."""
    if name == "Options":
        from layerstore_overlay.options import Options

        return Options
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
