"""Reading the entry points of installed distributions, without loading what reads all of their metadata.

`importlib_metadata` takes twice as long to load as an empty program takes to run. This module reads the one file that
matters, `entry_points.txt`, and no other. It declines whatever is not usual: then `importlib_metadata` reads all. The
rules are those of "Entry points specification" and "Recording installed projects" (packaging.python.org), and of
`importlib.metadata`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from importlib_metadata import Distribution

_INFO: Final = (".dist-info", ".egg-info")
#: The finders of modules that find distributions as `read_entry_points` does.
_FINDERS: Final = frozenset(
    {("_frozen_importlib_external", "PathFinder"), ("importlib_metadata", "MetadataPathFinder")}
)


class EntryPoint:
    """A name that a distribution gives to an object of its package.

    Attributes:
        name: the name.
        value: the object's place: `package.module:attribute`.
        group: what the object is for.
    """

    __slots__ = ("_place", "group", "name", "value")

    def __init__(self, name: str, value: str, group: str, place: str | Distribution | None) -> None:
        """Note an entry point.

        Args:
            name, value, group: as the attributes.
            place: the distribution, or the directory of its metadata.
        """
        self.name = name
        self.value = value
        self.group = group
        self._place = place

    def __repr__(self) -> str:
        return f"EntryPoint(name={self.name!r}, value={self.value!r}, group={self.group!r})"

    @property
    def module(self) -> str:
        """The name of the module."""
        return self.value.partition(":")[0].partition("[")[0].strip()

    @property
    def dist(self) -> Distribution | None:
        """The distribution."""
        if not isinstance(self._place, str):
            return self._place
        from importlib_metadata import Distribution

        return Distribution.at(self._place)

    def load(self) -> Any:
        """Import the object; this may raise anything."""
        module, colon, attributes = self.value.partition(":")
        if not _is_path(module) or (colon and not _is_path(attributes)):
            from importlib_metadata import EntryPoint  # it knows the other forms, and has the errors

            return EntryPoint(self.name, self.value, self.group).load()
        __import__(module)
        found: Any = sys.modules[module]
        for name in attributes.split(".") if colon else ():
            found = getattr(found, name)
        return found


def read_entry_points(groups: Collection[str]) -> list[EntryPoint] | None:
    """Return the entry points of some groups, in the order of Python's path.

    Returns:
        The entry points; `None` if `importlib_metadata` has to find them: there is an archive or a finder of modules
        that may have distributions of its own, or a file that is damaged, or two distributions of one name.
    """
    if not all(_is_usual(finder) for finder in sys.meta_path):
        return None
    found: list[EntryPoint] = []
    seen: set[str] = set()
    owners: set[str] = set()
    twice: set[str] = set()
    for directory in sys.path:
        try:
            names = os.listdir(directory or ".")
        except NotADirectoryError:
            return None
        except OSError:
            continue
        if directory.lower().endswith(".egg"):
            return None
        for entry in names:
            if not entry.lower().endswith(_INFO):
                continue
            distribution = entry.partition("-")[0].lower().replace(".", "_")
            if distribution in seen:
                twice.add(distribution)
            seen.add(distribution)
            place = os.path.join(directory, entry)
            try:
                points = _read(place, groups)
            except ValueError:
                return None
            if points:
                owners.add(distribution)
                found += points
    return None if twice & owners else found


def _is_usual(finder: object) -> bool:
    if not hasattr(finder, "find_distributions"):
        return True
    kind = finder if isinstance(finder, type) else type(finder)
    return (kind.__module__, kind.__name__) in _FINDERS


def _read(place: str, groups: Collection[str]) -> list[EntryPoint]:
    """Return the entry points of a distribution.

    Args:
        place: the directory of its metadata.
        groups: the groups to look for.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with open(os.path.join(place, "entry_points.txt"), "rb", buffering=0) as file:
            data = file.read()
    except OSError:  # most distributions have none
        return []
    if not any(group.encode() in data for group in groups):
        return []
    found = []
    group = None
    for line in map(str.strip, data.decode().splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]")
        elif group is not None:
            name, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"{place}: no entry point: {line!r}")
            if group in groups:
                found.append(EntryPoint(name.strip(), value.strip(), group, place))
    return found


def _is_path(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
