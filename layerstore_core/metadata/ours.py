"""Where our own state lies that speaks of a driver's layers: `<root>/layerstore/<kind>/<driver>`.

Layers belong to a driver, and one root can have several drivers' layers: the same chain may be in two of them, or in one
alone. Earlier versions wrote the entries straight into `<root>/layerstore/<kind>`. Those are still read, and belong to
every driver that has what they speak of. No name of theirs can be a driver's: see `registry.driver_name`.
"""

from __future__ import annotations

from pathlib import Path

from layerstore_core import inside


def state_directory(root: Path, kind: str, driver: str) -> Path:
    """The place of one kind of state, such as `"pins"`; its parent is where earlier versions had it."""
    return root / "layerstore" / kind / driver


def recorded_drivers(root: Path) -> list[str]:
    """The drivers that may have records under a root, by their names on disk, sorted."""
    return inside.directory_names(root / "image")
