"""What one tree has that another has not."""

from __future__ import annotations

from layerstore_core.archive.change import Change, ChangeKind
from layerstore_core.archive.compare import change_clock, compare_trees
from layerstore_core.archive.stamps import Stamps, take_stamps

__all__ = ["Change", "ChangeKind", "Stamps", "change_clock", "compare_trees", "take_stamps"]
