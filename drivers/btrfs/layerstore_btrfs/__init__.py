"""layerstore's btrfs driver: a layer is a subvolume, and its child starts as a snapshot of it."""

from __future__ import annotations

from layerstore_btrfs.driver import BtrfsDriver

__all__ = ["BtrfsDriver"]
