"""layerstore's btrfs driver: a layer is a subvolume, and its child starts as a snapshot of it."""

from __future__ import annotations

from typing import Any

from layerstore_btrfs.driver import BtrfsDriver

__all__ = ["BtrfsDriver", "Options"]


def __getattr__(name: str) -> Any:
    """The model of the options, loaded when it is asked for: pydantic takes longer to load than all else."""
    if name == "Options":
        from layerstore_btrfs.options import Options

        return Options
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
