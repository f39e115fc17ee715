"""Disassembly: what is noted of a tar while it passes into a driver."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from layerstore_core.archive.entry import EntryType, TarEntry
from layerstore_core.archive.seen import SeenNames
from layerstore_core.archive.whiteouts import NameKind, classify, clean_name, leaves_root
from layerstore_core.tarsplit.codec import LineWriter

_PLAIN_FILE_FLAGS = frozenset({b"0", b"\0", b"7"})


class _Keep(Enum):
    """How the current entry's payload is kept."""

    IN_FILE = auto()
    INLINE = auto()
    NOTHING = auto()


class Recorder:
    """Listens to a layer stream, and writes its tar-split lines.

    A payload that a file of the driver will hold is noted by name, size and checksum; any other
    goes into the lines themselves. An entry whose name was there before gets no line: readers refuse
    two file entries of one name.

    Args:
        lines: where the lines go.
        crc64: CRC-64/GO-ISO of a buffer, continued from a former result (`fastcrc.crc64.go_iso`).
    """

    def __init__(self, lines: LineWriter, crc64: Callable[[memoryview, int | None], int]) -> None:
        self._lines = lines
        self._crc64 = crc64
        self._crc: int | None = None
        self._keep = _Keep.NOTHING
        self._entry: TarEntry | None = None
        self._names = SeenNames()
        self._names_with_payload = SeenNames()
        #: Whether a file noted here may have been replaced by a later entry of the same name.
        self.displaced = False

    def segment(self, data: bytes) -> None:
        """Note raw bytes."""
        self._lines.segment(data)

    def begin_entry(self, entry: TarEntry) -> None:
        """Decide how the entry's payload is kept."""
        name = clean_name(entry.name)
        is_new = self._names.add(name)
        if not is_new and name in self._names_with_payload:
            self.displaced = True
        if not entry.stored_size:
            self._keep = _Keep.NOTHING
            if is_new:
                self._lines.file(entry.name)
        elif is_new and _is_held_by_file(entry, name):
            self._keep = _Keep.IN_FILE
            self._names_with_payload.add(name)
            self._entry, self._crc = entry, None
        else:
            self._keep = _Keep.INLINE

    def payload(self, chunk: memoryview) -> None:
        """Take in a piece of the payload."""
        if self._keep is _Keep.IN_FILE:
            self._crc = self._crc64(chunk, self._crc)
        else:
            self._lines.payload(chunk)

    def end_entry(self) -> None:
        """Note the entry, now that its checksum is known."""
        if self._keep is _Keep.IN_FILE:
            assert self._entry is not None and self._crc is not None
            self._lines.file(self._entry.name, self._entry.stored_size, self._crc)

    def end(self) -> None:
        """The tar is complete: Docker's writer ends with an empty segment."""
        self._lines.segment(b"")
        self._lines.finish()


def _is_held_by_file(entry: TarEntry, name: bytes) -> bool:
    """Whether unpacking makes a file whose content is the payload as it stands in the tar."""
    return (
        entry.type is EntryType.FILE
        and entry.typeflag in _PLAIN_FILE_FLAGS
        and entry.sparse is None
        and bool(name)
        and not leaves_root(name)
        and classify(name) is NameKind.PLAIN
    )
