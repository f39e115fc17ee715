"""What authors of drivers use beside the names of `layerstore_core`: access to trees below a descriptor.

These names are public. More of them will come from what the drivers of this repository use.
"""

from __future__ import annotations

from layerstore_core.diff.change import TouchedPaths
from layerstore_core.tree.root import Directory, Root
from layerstore_core.unpack.whiteout_style import WhiteoutStyle

__all__ = ["Directory", "Root", "TouchedPaths", "WhiteoutStyle"]
