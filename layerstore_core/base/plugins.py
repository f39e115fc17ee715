"""The entry points of installed packages that provide drivers and wrappers."""

from __future__ import annotations

from typing import Final

from importlib_metadata import EntryPoint, distributions, entry_points

from layerstore_core.log import logger

DRIVERS: Final = "layerstore.drivers"
WRAPPERS: Final = "layerstore.wrappers"


def installed_entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group. A package is skipped, with a warning, if its entry points cannot be read.

    Args:
        group: `DRIVERS` or `WRAPPERS`.
    """
    try:
        return list(entry_points(group=group))
    except Exception:  # one malformed file prevents reading all others, so each package is read alone
        pass
    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        where = str(distribution.locate_file(""))
        try:
            # The first of a name on the path hides the others, as in an import.
            found.setdefault(distribution.name, list(distribution.entry_points.select(group=group)))
        except Exception as error:
            logger.warning("skipping a package in {}, because its entry points cannot be read: {!r}", where, error)
    return [point for points in found.values() for point in points]


def entry_point_names(*groups: str) -> set[str]:
    """Return the names of all entry points in the groups."""
    return {point.name for group in groups for point in installed_entry_points(group)}
