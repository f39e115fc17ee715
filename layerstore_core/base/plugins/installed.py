"""The entry points of installed packages that provide drivers and wrappers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from layerstore_core.base.plugins.entry_points import EntryPoint, read_entry_points
from layerstore_core.log import logger

if TYPE_CHECKING:
    import importlib_metadata

DRIVERS: Final = "layerstore.drivers"
WRAPPERS: Final = "layerstore.wrappers"
#: What a driver is known not to do, for the conformance kit.
KNOWN_LIMITS: Final = "layerstore.known_limits"
_GROUPS: Final = (DRIVERS, WRAPPERS, KNOWN_LIMITS)

#: The entry points of all packages by group, and the state of Python's path when they were read.
_read: tuple[object, dict[str, list[EntryPoint]]] | None = None


def installed_entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group. A package is skipped, with a warning, if its entry points cannot be read.

    They are read once, and again after a package was installed or removed.

    Args:
        group: `DRIVERS`, `WRAPPERS` or `KNOWN_LIMITS`.
    """
    try:
        return list(_entry_points()[group])
    except Exception:  # one malformed file prevents reading all others, so each package is read alone
        pass
    from importlib_metadata import distributions  # lazy: it takes 20 ms to load

    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        where = str(distribution.locate_file(""))
        try:
            # The first of a name on the path hides the others, as in an import.
            found.setdefault(distribution.name, _own(distribution.entry_points.select(group=group)))
        except Exception as error:
            logger.warning("skipping a package in {}, because its entry points cannot be read: {!r}", where, error)
    return [point for points in found.values() for point in points]


def entry_point_names(*groups: str) -> set[str]:
    """Return the names of all entry points in the groups."""
    return {point.name for group in groups for point in installed_entry_points(group)}


def _entry_points() -> dict[str, list[EntryPoint]]:
    global _read
    state = _state_of_path()
    if _read is None or _read[0] != state:
        points = read_entry_points(_GROUPS)
        if points is None:
            from importlib_metadata import entry_points  # lazy: it takes 20 ms to load

            points = _own(entry_points())
        _read = state, {group: [point for point in points if point.group == group] for group in _GROUPS}
    return _read[1]


def _own(points: Iterable[importlib_metadata.EntryPoint]) -> list[EntryPoint]:
    """Return what `importlib_metadata` has found."""
    return [EntryPoint(point.name, point.value, point.group, cast("Any", point.dist)) for point in points]


def _state_of_path() -> object:
    """Return what changes when a package is installed or removed: the path, and its directories' times."""
    return [(place, _mtime_ns(place)) for place in sys.path], [id(finder) for finder in sys.meta_path]


def _mtime_ns(place: str) -> int | None:
    try:
        return os.stat(place or ".").st_mtime_ns
    except (OSError, ValueError):
        return None
