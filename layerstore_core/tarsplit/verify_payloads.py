"""Verification of payloads, and correct tar-split lines for a layer that has overwritten files of its own.

While a tar is read, its payloads are recorded as the contents of files. In most tars this stays true. But a later entry
may replace a file, delete its directory, or turn a directory on its path into a link. And a driver that has read the
stream as bytes may have done anything. In these cases the lines are read once more. Each file is compared with the
tar's own bytes; a payload that is not the content of its file goes into the lines themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from layerstore_core.errors import InvalidLayer
from layerstore_core.tarsplit.assemble import FileGetter
from layerstore_core.tarsplit.codec import FileEntry, LineWriter, Segment

_CHUNK: Final = 1 << 20


class TarBytes(Protocol):
    """Second reading of the tar's payloads, forwards."""

    def payload(self, offset: int, size: int, crc: int) -> Iterator[bytes] | None:
        """Return a payload, in chunks; `None` if its file is known to have it. Offsets ascend from call to call."""


def verify_payloads(entries: Iterable[Segment | FileEntry], files: FileGetter, tar: TarBytes, lines: LineWriter) -> int:
    """Write the lines again, with a segment instead of each file entry whose file does not have its payload.

    Args:
        entries: the provisional lines.
        files: the layer's files, all applied.
        tar: the bytes that the lines describe.
        lines: the writer of the new lines; they are finished here.

    Returns:
        The number of payloads that now are in the lines.

    Raises:
        InvalidLayer: the tar was made to deceive the checksum.
        OSError: the tar is not the same as when it was first read.
    """
    offset = inlined = 0
    for entry in entries:
        if isinstance(entry, Segment):
            lines.segment(entry.data)
            offset += len(entry.data)
        elif not entry.size:
            lines.file(entry.name)
        else:
            if _file_has_payload(files, entry, tar, offset):
                lines.file(entry.name, entry.size, entry.crc)
            else:
                _inline(entry, tar.payload(offset, entry.size, entry.crc), lines)
                inlined += 1
            offset += entry.size
    lines.finish()
    return inlined


def _inline(entry: FileEntry, chunks: Iterator[bytes] | None, lines: LineWriter) -> None:
    """Write a payload into the lines themselves."""
    from fastcrc import crc64

    if chunks is None:
        name = entry.name.decode("utf-8", "backslashreplace")
        raise OSError(f"the file {name!r} was changed while the layer was unpacked; register it from a file")
    crc = None
    for chunk in chunks:
        crc = crc64.go_iso(chunk, crc)
        lines.payload(memoryview(chunk))
    if crc != entry.crc:
        name = entry.name.decode("utf-8", "backslashreplace")
        raise OSError(f"the layer's tar was changed while it was read: its file {name!r} differs")


def _file_has_payload(files: FileGetter, entry: FileEntry, tar: TarBytes, offset: int) -> bool:
    """Return whether the file of the entry's name has the payload as its content, byte for byte."""
    from fastcrc import crc64

    # The checksum is compared first: it needs only the file, and nearly always decides.
    try:
        with files.open(entry.name) as file:
            left, crc = entry.size, None
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                crc = crc64.go_iso(chunk, crc)
            if left or file.read(1) or crc != entry.crc:
                return False
        with files.open(entry.name) as file:
            payload = tar.payload(offset, entry.size, entry.crc)
            same = payload is None or all(file.read(len(chunk)) == chunk for chunk in payload)
    except OSError:
        return False
    if not same:
        # A CRC collision is assumed to be deliberate. The tar cannot be read backwards to write this payload into the
        # lines, and no honest user needs that.
        raise InvalidLayer("two contents of one name with the same CRC-64", offset=offset, entry=entry.name)
    return True
