"""The size of a layer, from its tar: nearly always what unpacking has counted."""

from __future__ import annotations

from layerstore_core.base.paths import clean_name
from layerstore_core.tar.entry import EntryType, TarEntry


class SizeCounter:
    """Counts the lengths of the regular files and symbolic links' targets in a tar, each name once.

    Of several entries with one name the last counts. Files that are deleted within one tar, or lost because a directory
    becomes a file, are not considered: the size is a figure for people, and such tars are rare.
    """

    def __init__(self) -> None:
        self._sizes: dict[bytes, int] = {}

    def add(self, entry: TarEntry) -> None:
        """Count the next entry."""
        if entry.type in (EntryType.GLOBAL, EntryType.VOLUME):
            return
        size = {EntryType.FILE: entry.size, EntryType.SYMLINK: len(entry.linkname)}.get(entry.type, 0)
        name = clean_name(entry.name)
        if size or name in self._sizes:
            self._sizes[name] = size

    @property
    def total(self) -> int:
        """The size so far, in bytes."""
        return sum(self._sizes.values())
