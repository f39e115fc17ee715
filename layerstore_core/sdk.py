"""What authors of drivers use beside the names of `layerstore_core`: access to trees below a descriptor.

These names are public. More of them will come from what the drivers of this repository use.
"""

from __future__ import annotations

from layerstore_core.archive.root import Directory, Root
from layerstore_core.archive.touched import TouchedPaths
from layerstore_core.archive.whiteoutstyle import WhiteoutStyle

__all__ = ["Directory", "Root", "TouchedPaths", "WhiteoutStyle"]
