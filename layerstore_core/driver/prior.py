"""Which drivers have used a root before, and which of them somebody chose for it.

State is whatever the driver would be missed for: layers, writable layers, images, pins, what a repair has set aside, and
layers of the driver whose records are lost.

Docker takes another driver though there is state of vfs (moby, `daemon/graphdriver/driver.go`), since it took vfs itself
where nothing else worked. A root that Docker made keeps this rule. With us somebody chose vfs, or goes on with it: its
state counts where a store of ours was made with it, of which there is a note, `<root>/layerstore/drivers/<driver>`. Stores of
earlier versions have no notes, but more in `<root>/layerstore` than opening Docker's root makes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.driver import registry
from layerstore_core.errors import BadRecord, LayerStoreError
from layerstore_core.locking.docker_lock import docker_was_here
from layerstore_core.log import logger
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.records.own_state import driver_note, recorded_drivers, state_directory, write_driver_note

#: What is under `image/<driver>/layerdb` once a layer or a writable layer has been made.
_RECORDS: Final = ("sha256", "mounts")
#: What lies under `layerstore/` by driver, and would be lost with it.
_KEPT: Final = ("pins", "quarantine")
#: The driver whose state Docker does not go by, also where it is not installed here.
_LAST_RESORT: Final = "vfs"
_LAYER: Final = re.compile(r"[0-9a-f]{64}(-init)?", re.ASCII)


def chosen_drivers(root: Path) -> list[str]:
    """The drivers that the store under a root stays with, by their names on disk, sorted: more than one are ambiguous.

    Those with state; where none has any, those that the store was made with.
    """
    noted = _noted(root)

    def was_chosen(name: str) -> bool:
        if not _is_last_resort(name) or name in noted:
            return True
        return not noted and _is_of_an_earlier_version(root, name)

    found = [name for name in prior_drivers(root) if was_chosen(name)]
    return found or [name for name in sorted({*noted, *_with_homes(root)}) if was_chosen(name)]


def prior_drivers(root: Path) -> list[str]:
    """The drivers that have state under a root, by their names on disk, sorted."""
    names = {*recorded_drivers(root), *_noted(root)}
    for kind in _KEPT:
        names.update(_directories(state_directory(root, kind, "")))
    if not docker_was_here(root) and inside.is_directory(root / "layerstore"):
        # Whatever else there is, Docker has not made it: also a driver's layers of which no record is left.
        names.update(_directories(root))
    return sorted(name for name in names if registry.is_name_on_disk(name) and _has_state(root, name))


def note_driver(root: Path, name: str, *, durable: bool) -> None:
    """Note that a store was made with a driver. Where it cannot be written, as on a full disk, that is logged."""
    note = driver_note(root, name)
    try:
        if inside.exists(note):
            return
        # From the first note on, state without one may be Docker's.
        names = [name] if inside.is_directory(note.parent) else [*chosen_drivers(root), name]
        make_directory(note.parent, 0o700, durable=durable)
        for one in names:
            # Before the note, which says that they are there: if one is missing later on, it is lost.
            make_directory(state_directory(root, "pins", one), 0o700, durable=durable)
            make_directory(ImageDB(root / "image" / one).content, 0o700, durable=durable)
            write_driver_note(root, one)
        if durable:
            inside.flush(note.parent)
            for directory in (
                root / "image",
                root,
            ):  # locks and drivers may have made what is in them, and promise nothing
                inside.flush(directory)
    except (BadRecord, OSError) as error:
        logger.warning("it could not be noted in {} that the store was made with driver {}: {}", note, name, error)


def _has_state(root: Path, name: str) -> bool:
    image = root / "image" / name
    return (
        any(_has_entries(image / "layerdb" / part) for part in _RECORDS)
        or _has_images(image)
        or any(_has_entries(state_directory(root, kind, name)) for kind in _KEPT)
        or _has_layers(root / name)
    )


def _has_entries(directory: Path) -> bool:
    try:
        return inside.has_entries(directory)
    except BadRecord:
        return True  # who put something else there, has put away what there was


def _has_images(image: Path) -> bool:
    if not inside.is_directory(image):
        return False
    records = ImageDB(image)
    try:
        return bool(records.image_ids() or records.names())
    except (LayerStoreError, OSError):
        return True  # they are damaged


def _has_layers(home: Path) -> bool:
    """Whether there is a layer in a driver's directory, or one level below it, by the IDs that layer stores give."""
    return any(
        any(_LAYER.fullmatch(name) for name in _directories(directory))
        for directory in (home, *(home / name for name in _directories(home)))
    )


def _with_homes(root: Path) -> list[str]:
    """The drivers whose store was made under a root, and is empty, or holds what is not ours, such as Docker's cache."""
    return [
        name
        for name in recorded_drivers(root)
        if inside.is_directory(root / "image" / name / "layerdb") and _is_used(root / name)
    ]


def _is_used(home: Path) -> bool:
    try:
        return _has_entries(home)
    except PermissionError:
        return True


def _is_of_an_earlier_version(root: Path, name: str) -> bool:
    """Whether an earlier version has made a store with a driver; where Docker was, too, only a pin tells."""
    if not docker_was_here(root):
        try:
            return any(entry != "locks" for entry in inside.names(root / "layerstore"))
        except PermissionError:
            return True
    layers = _names(root / "image" / name / "layerdb" / "sha256")
    return not set(layers).isdisjoint(_names(state_directory(root, "pins", "")))


def _is_last_resort(name: str) -> bool:
    try:
        return registry.is_last_resort(registry.load_driver(registry.entry_point_of(name)))
    except LayerStoreError:
        return name == _LAST_RESORT


def _noted(root: Path) -> list[str]:
    try:
        return list(filter(registry.is_name_on_disk, _names(state_directory(root, "drivers", ""))))
    except BadRecord:
        return []  # something else stands there, which tells nothing


def _names(directory: Path) -> list[str]:
    # PermissionError: somebody else's store can be read, though not what is ours in it.
    try:
        return inside.names(directory)
    except PermissionError:
        return []


def _directories(directory: Path) -> list[str]:
    try:
        return inside.directory_names(directory)
    except PermissionError:
        return []
