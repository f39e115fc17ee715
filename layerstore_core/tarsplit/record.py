"""Recording tar-split lines while a tar is applied to a driver."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from layerstore_core.base.nameset import seen_names
from layerstore_core.base.paths import leaves_root
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.run import Run, entry_of
from layerstore_core.tar.whiteouts import NameKind, classify
from layerstore_core.tarsplit.codec import LineWriter

_FILE = EntryType.FILE
_PLAIN_FILE_FLAGS = frozenset({b"0", b"\0", b"7"})


class _Keep(Enum):
    """Place where the current entry's payload is kept."""

    IN_FILE = auto()
    INLINE = auto()
    NOTHING = auto()


class Recorder:
    """Recorder of a layer stream's tar-split lines.

    A payload that will be the content of a driver's file is recorded by name, size and checksum. Any other payload goes
    into the lines themselves. An entry gets no file entry if its name has occurred before: readers refuse two file
    entries of one name.

    Args:
        lines: the writer of the lines.
        crc64: returns the CRC-64/GO-ISO of a buffer, continued from an earlier result, which is 0 for none
            (`fastcrc.crc64.go_iso`).
    """

    def __init__(self, lines: LineWriter, crc64: Callable[[memoryview, int], int]) -> None:
        self._lines = lines
        self._crc64 = crc64
        self._crc: int | None = None
        self._keep = _Keep.NOTHING
        self._entry: TarEntry | None = None
        self._names = seen_names()
        #: Names whose first entry had no payload: another entry of the same name does no harm.
        self._names_without_payload = seen_names()
        #: Whether a file recorded here may have been replaced by a later entry of the same name.
        self.displaced = False

    def segment(self, data: bytes) -> None:
        """Record raw bytes."""
        self._lines.segment(data)

    def run(self, run: Run) -> None:
        """Record a run."""
        if self._names.add_run(run):
            self._names_without_payload.add_empty(run)
            self._lines.run(run)
            return
        for number in range(len(run)):  # the name of at least one has occurred before
            self.segment(run.segment(number))
            self.begin_entry(entry_of(run, number))
            if payload := run.payload(number):
                self.payload(payload)
            self.end_entry()

    def begin_entry(self, entry: TarEntry) -> None:
        """Decide where the entry's payload is kept."""
        name = entry.path
        is_new = self._names.add(name)
        if not is_new and name not in self._names_without_payload:
            self.displaced = True
        if is_new and entry.stored_size and _is_kept_as_file(entry, name):
            self._keep = _Keep.IN_FILE
            self._entry, self._crc = entry, None
            return
        if is_new:
            self._names_without_payload.add(name)
        if entry.stored_size:
            self._keep = _Keep.INLINE
        else:
            self._keep = _Keep.NOTHING
            if is_new:
                self._lines.file(entry.name)

    def payload(self, chunk: memoryview) -> None:
        """Record a piece of the payload."""
        if self._keep is _Keep.IN_FILE:
            self._crc = self._crc64(chunk, self._crc or 0)
        else:
            self._lines.payload(chunk)

    def end_entry(self) -> None:
        """Record the entry, now that its checksum is known."""
        if self._keep is _Keep.IN_FILE:
            assert self._entry is not None and self._crc is not None
            self._lines.file(self._entry.name, self._entry.stored_size, self._crc)

    def end(self) -> None:
        """Finish the lines at the end of the tar: Docker's writer ends with an empty segment."""
        self._lines.segment(b"")
        self._lines.finish()


def _is_kept_as_file(entry: TarEntry, name: bytes) -> bool:
    """Return whether unpacking makes a file whose content is exactly the entry's payload."""
    return (
        entry.type is _FILE
        and entry.typeflag in _PLAIN_FILE_FLAGS
        and entry.sparse is None
        and name != b""
        and not (name.startswith(b"..") and leaves_root(name))
        and (b".wh." not in name or classify(name) is NameKind.PLAIN)
    )
