"""Find the drivers that have state under a root, and those of them that the root's store was made with.

State is anything that would be lost without the driver: layers, writable layers, images, pins, an engine's snapshots,
what a repair has put in quarantine, and the driver's layers whose records are lost.

Docker ignores the state of vfs and takes another driver (moby, `daemon/graphdriver/driver.go`), because it takes vfs
itself where nothing else works. For a root that Docker created this rule holds here too. In a store of this program vfs
was chosen by a user, or the store already had it. So its state counts if a store was made with it. A note records that:
`<root>/layerstore/drivers/<driver>`. Stores of earlier versions have no notes, but they have more in
`<root>/layerstore` than opening Docker's root creates.
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

#: The directories under `image/<driver>/layerdb` that have entries once a layer or a writable layer has been created.
_RECORDS: Final = ("sha256", "mounts")
#: The directories under `layerstore/` with a directory for each driver, whose content would be lost without the driver.
_KEPT: Final = ("pins", "quarantine", "snapshots")
#: The name of the driver whose state Docker ignores, in case that driver is not installed here.
_LAST_RESORT: Final = "vfs"
_LAYER: Final = r"[0-9a-f]{64}(-init|-snapshot)?"


def chosen_drivers(root: Path) -> list[str]:
    """Return the drivers that the store under a root must keep to, by their names on disk, sorted.

    These are the drivers with state. If no driver has state, they are those that the store was made with. More than one
    are ambiguous.
    """
    noted = _noted(root)

    def was_chosen(name: str) -> bool:
        if not _is_last_resort(name) or name in noted:
            return True
        return not noted and _is_of_an_earlier_version(root, name)

    found = [name for name in prior_drivers(root) if was_chosen(name)]
    return found or [name for name in sorted({*noted, *_with_homes(root)}) if was_chosen(name)]


def prior_drivers(root: Path) -> list[str]:
    """Return the drivers that have state under a root, by their names on disk, sorted."""
    names = {*recorded_drivers(root), *_noted(root)}
    for kind in _KEPT:
        names.update(_directories(state_directory(root, kind, "")))
    if not docker_was_here(root) and inside.is_directory(root / "layerstore"):
        # Docker did not create the other directories here: they may be of drivers whose layers have lost their records.
        names.update(_directories(root))
    return sorted(name for name in names if registry.is_name_on_disk(name) and _has_state(root, name))


def note_driver(root: Path, name: str, *, durable: bool) -> None:
    """Write the note that a store was made with a driver. If it cannot be written, as on a full disk, log that."""
    note = driver_note(root, name)
    try:
        if inside.exists(note):
            return
        # Once a note exists, state without a note may be Docker's. So the first note comes with those of all drivers.
        names = [name] if inside.is_directory(note.parent) else [*chosen_drivers(root), name]
        make_directory(note.parent, 0o700, durable=durable)
        for driver in names:
            # Before the note, which says that these directories exist: if one is missing later, it was lost.
            make_directory(state_directory(root, "pins", driver), 0o700, durable=durable)
            make_directory(ImageDB(root / "image" / driver).content, 0o700, durable=durable)
            write_driver_note(root, driver)
        if durable:
            inside.flush(note.parent)
            # Locks and drivers may have created entries in these directories without flushing them.
            for directory in (root / "image", root):
                inside.flush(directory)
    except (BadRecord, OSError) as error:
        logger.warning("the note {} that the store was made with driver {} was not written: {}", note, name, error)


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
        return True  # a file in place of the directory: the state that was there has been replaced


def _has_images(image: Path) -> bool:
    if not inside.is_directory(image):
        return False
    records = ImageDB(image)
    try:
        return bool(records.image_ids() or records.names())
    except (LayerStoreError, OSError):
        return True  # the records are damaged


def _has_layers(home: Path) -> bool:
    """Return whether a driver's directory has a layer, in it or one level below. IDs of layer stores mark layers."""
    return any(
        any(re.fullmatch(_LAYER, name) for name in _directories(directory))
        for directory in (home, *(home / name for name in _directories(home)))
    )


def _with_homes(root: Path) -> list[str]:
    """Return the drivers with records and a home under a root, even if neither has a layer of ours.

    Their stores are empty, or have content that is not of this program, such as Docker's cache.
    """
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
    """Return whether an earlier version has made a store with a driver.

    In a root that Docker has used too, only a pin of one of the driver's layers shows that.
    """
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
        return []  # a file in place of the directory: it says nothing about drivers


def _names(directory: Path) -> list[str]:
    # PermissionError: another user's store can be readable, while this program's own directories in it are not.
    try:
        return inside.names(directory)
    except PermissionError:
        return []


def _directories(directory: Path) -> list[str]:
    try:
        return inside.directory_names(directory)
    except PermissionError:
        return []
