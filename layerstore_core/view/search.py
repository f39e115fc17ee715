"""Searching one layer for a path while its entries come in, as from a network: no more of them is read than needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from layerstore_core.base.paths import leaves_root
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.whiteouts import NameKind, classify, whiteout_target
from layerstore_core.view.layers import Batch, OtherEntry, PlainFile
from layerstore_core.view.limits import Budget

_FILE: Final = EntryType.FILE
_DIR: Final = EntryType.DIR
_MAKES_NOTHING: Final = (EntryType.GLOBAL, EntryType.VOLUME)

#: An entry, and the name, the offset and the checksum of its payload, as in `OtherEntry`.
Located = tuple[TarEntry, bytes, int, int] | OtherEntry


class UnclearError(Exception):
    """The layer has something that only merging can interpret."""


@dataclass
class Found:
    """What a layer says about a path and the directories above it.

    Attributes:
        entries: the layer's entries at these paths.
        hidden: whether the layer hides what the layers below have there.
        listed: whether the layer lists the directories of all these entries: then none of them is a link of a layer
            below.
    """

    entries: dict[bytes, Located] = field(default_factory=dict)
    hidden: bool = False
    listed: bool = True


@runtime_checkable
class SearchedLayer(Protocol):
    """A layer that can be searched for a path, without reading all of it if that is possible."""

    def search(self, wanted: Mapping[bytes, int]) -> Found:
        """Return what the layer says about a path.

        Args:
            wanted: the path and the directories above it, with the number of their components.

        Raises:
            UnclearError: only the merged tree can say it.
            InvalidLayer: the layer is damaged, or exceeds the limits.
        """


class EntrySearch:
    """A search among entries, which come in the order of the tar.

    Entries whose directory the layer does not list are a special case. The directory may be a symbolic link of a layer
    below, so they may be at any path. That does not matter if the layer then has a file at the path that is wanted.

    Args:
        wanted: the path and the directories above it, with the number of their components.

    Attributes:
        found: what has been found.
        decided: whether a file, or a link on the way to it, has been found. Further entries matter only if the layer
            has several at one path, or deletes its own.
    """

    def __init__(self, wanted: Mapping[bytes, int]) -> None:
        self._wanted = wanted
        self._count = max(wanted.values())
        self._directories = {b""}
        self._deleted: set[bytes] = set()
        #: Whether an entry has no entry for its directory; and whether such an entry has come after what was found.
        self._unclear_before = self._unclear_after = False
        self._budget = Budget()
        self.found = Found()
        self.decided = False

    def add(self, batch: Batch) -> bool:
        """Take the next entries into account; return `decided`.

        Raises:
            UnclearError: only the merged tree can say what they mean.
            InvalidLayer: they are invalid, or too many.
        """
        if isinstance(batch, list):
            for plain in batch:
                self._add(plain[0], _FILE if plain[3] >= 0 else _DIR, plain)
            return self.decided
        if batch.entry.type in _MAKES_NOTHING:
            return self.decided
        path = batch.entry.path
        if leaves_root(path):
            raise UnclearError  # merging has the error for it
        kind = classify(path)
        if kind is NameKind.PLAIN and not batch.entry.is_whiteout_device:
            self._add(path, batch.entry.type, batch)
        else:
            self._add_whiteout(path, kind)
        return self.decided

    def finish(self) -> Found:
        """Return what has been found, after the last entry or as soon as `decided` is true.

        Raises:
            UnclearError: only the merged tree can say what the entries mean.
        """
        for deleted in self._deleted:
            if any((path + b"/").startswith(deleted + b"/") for path in self.found.entries):
                raise UnclearError  # it depends on which of them comes first
        self.found.hidden = self.found.hidden or bool(self._deleted)
        if self._unclear_after or (self._unclear_before and not self.decided):
            raise UnclearError
        return self.found

    def _add(self, path: bytes, kind: EntryType, one: PlainFile | OtherEntry) -> None:
        above = self._above(path)
        if kind is _DIR:
            self._budget.add(1, len(path))
            self._directories.add(path)
        elif path in self._directories:
            raise UnclearError
        count = self._wanted.get(path)
        if count is None:
            return
        before = self.found.entries.get(path)
        if path in self._deleted or (before is not None and not (before[0].type is kind is _DIR)):
            raise UnclearError
        self.found.listed = self.found.listed and above in self._directories
        if above not in self._directories and any(
            known.type is not _DIR and (above + b"/").startswith(at + b"/")
            for at, (known, *_) in self.found.entries.items()
        ):
            raise UnclearError  # it is in what a link of this layer leads to
        self.found.entries[path] = one if isinstance(one, OtherEntry) else _other(one)
        self.decided = (
            self.decided or kind is EntryType.SYMLINK or (count == self._count and kind in (_FILE, EntryType.HARDLINK))
        )

    def _add_whiteout(self, path: bytes, kind: NameKind) -> None:
        above = self._above(path)
        if kind is NameKind.PLAIN:  # a device that stands for a whiteout
            self._delete(path)
        elif kind is NameKind.WHITEOUT:
            self._delete(whiteout_target(path))
        elif kind is NameKind.OPAQUE:
            if self._wanted.get(above) == self._count:
                raise UnclearError
            self.found.hidden = self.found.hidden or not above or above in self._wanted
        # Names of aufs's own mean nothing. Who follows a hard link to one of them asks the merged tree.

    def _delete(self, path: bytes) -> None:
        if path in self._wanted:
            self._deleted.add(path)

    def _above(self, path: bytes) -> bytes:
        """Return the directory of a path, and note whether the layer lists it."""
        above = path.rpartition(b"/")[0]
        if above not in self._directories:
            self._unclear_after = self._unclear_after or self.decided
            self._unclear_before = True
        return above


def search_all(batches: Iterator[Batch], wanted: Mapping[bytes, int]) -> Found:
    """Search all entries of a layer; see `SearchedLayer.search`."""
    search = EntrySearch(wanted)
    for batch in batches:
        search.add(batch)
    return search.finish()


def _other(plain: PlainFile) -> OtherEntry:
    """Return a plain file or directory as an entry."""
    path, (mode, uid, gid), mtime_ns, size, name, offset, crc = plain
    entry = TarEntry(path, _FILE if size >= 0 else _DIR, mode, uid, gid, max(size, 0), mtime_ns)
    entry.stored_size = max(size, 0)
    return OtherEntry(entry, name, offset, crc)
