"""Our own state for a driver's layers: `<root>/layerstore/<kind>/<driver>`.

Layers belong to a driver, and one root can have several drivers' layers: the same chain may be in two of them, or in
only one. Earlier versions wrote the entries directly into `<root>/layerstore/<kind>`. Those are still read, and belong
to every driver that has the layers that they name. Their names cannot be a driver's: see `registry.driver_name`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.errors import BadRecord

#: The content of a driver's note: the directories for pins and images existed before it. Older notes are empty.
_HAD_PLACES: Final = b"places\n"


def state_directory(root: Path, kind: str, driver: str) -> Path:
    """Return the directory of one kind of state, such as `"pins"`; earlier versions used its parent."""
    return root / "layerstore" / kind / driver


def recorded_drivers(root: Path) -> list[str]:
    """Return the drivers that may have records under a root, by their names on disk, sorted."""
    return inside.directory_names(root / "image")


def driver_note(root: Path, driver: str) -> Path:
    """Return the path of the note that a store was created with a driver."""
    return state_directory(root, "drivers", driver)


def write_driver_note(root: Path, driver: str) -> None:
    """Note that a store was created with a driver, and that its directories for pins and images exist."""
    inside.write(driver_note(root, driver), _HAD_PLACES, 0o644)


def lost_directory(root: Path, driver: str, directory: Path, content: str) -> BadRecord | None:
    """Return the error for a directory of references that is missing, and existed when the driver was noted.

    Its absence does not mean that there were no references.

    Args:
        root: the store's directory.
        driver: the driver's name on disk.
        directory: the directory.
        content: what is in it, in the plural.

    Returns:
        The error; `None` where the directory exists, or is not known to have existed.
    """
    if inside.exists(directory):
        return None
    try:
        note = inside.read(driver_note(root, driver), len(_HAD_PLACES))
    except FileNotFoundError:
        return None
    except BadRecord as error:
        return error
    except OSError as error:
        return BadRecord(driver_note(root, driver), f"the note of the driver cannot be read: {error.strerror}")
    # Again: another process that makes the first store here makes the directory, and then the note.
    if note != _HAD_PLACES or inside.exists(directory):
        return None
    return BadRecord(
        directory,
        f"the directory of the {content} is missing; restore it from a backup, or create it, empty, if there were no "
        f"{content}",
    )
