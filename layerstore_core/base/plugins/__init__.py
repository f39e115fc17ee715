"""What installed packages give to the core: drivers and wrappers, by their entry points."""

from layerstore_core.base.plugins.entry_points import EntryPoint
from layerstore_core.base.plugins.installed import (
    DRIVERS,
    KNOWN_LIMITS,
    WRAPPERS,
    entry_point_names,
    installed_entry_points,
)

__all__ = ["DRIVERS", "KNOWN_LIMITS", "WRAPPERS", "EntryPoint", "entry_point_names", "installed_entry_points"]
