"""What one tree has that another has not."""

from __future__ import annotations

from layerstore_core.diff.change import Change, ChangeKind
from layerstore_core.diff.compare import change_clock, compare_trees
from layerstore_core.diff.stamps import Stamps, take_stamps

__all__ = ["Change", "ChangeKind", "Stamps", "change_clock", "compare_trees", "take_stamps"]
