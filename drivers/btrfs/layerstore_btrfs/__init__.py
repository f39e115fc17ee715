"""The btrfs driver: a layer is a subvolume, and a child begins as a snapshot of its parent."""

from __future__ import annotations

from typing import Any

from layerstore_btrfs.driver import BtrfsDriver

__all__ = ["BtrfsDriver", "Options"]


def __getattr__(name: str) -> Any:
    """Load the model of the options at its first use: pydantic takes longer to load than everything else."""
    if name == "Options":
        from layerstore_btrfs.options import Options

        return Options
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
