"""Settling: making tar-split lines right for a layer that overwrote files of its own.

While a tar passes, its payloads are noted as the content of files. Most tars keep these files. But a
later entry may replace one, delete its directory, or turn a directory on its path into a link; and a
driver that read the stream as bytes may have done anything. Then the lines are gone through once
more: each file is compared with the tar's own bytes, and what it does not hold is taken inline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from layerstore_core.errors import InvalidLayer
from layerstore_core.tarsplit.assemble import FileGetter
from layerstore_core.tarsplit.codec import FileEntry, LineWriter, Segment

_CHUNK: Final = 1 << 20


class TarBytes(Protocol):
    """The tar once more, forwards."""

    def range(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes from `offset` on, in chunks; offsets ascend."""


def verify_payloads(entries: Iterable[Segment | FileEntry], files: FileGetter, tar: TarBytes, lines: LineWriter) -> int:
    """Write lines anew, with a segment in place of each file entry that no file bears out.

    Args:
        entries: the provisional lines.
        files: the layer's files, all applied.
        tar: the bytes that the lines describe.
        lines: where the new lines go; they are finished here.

    Returns:
        How many payloads were taken inline.

    Raises:
        InvalidLayer: the tar was made to deceive the checksum.
        OSError: the tar is not what it was when it was first read.
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
                _inline(entry, tar.range(offset, entry.size), lines)
                inlined += 1
            offset += entry.size
    lines.finish()
    return inlined


def _inline(entry: FileEntry, chunks: Iterator[bytes], lines: LineWriter) -> None:
    from fastcrc import crc64

    crc = None
    for chunk in chunks:
        crc = crc64.go_iso(chunk, crc)
        lines.payload(memoryview(chunk))
    if crc != entry.crc:
        name = entry.name.decode("utf-8", "backslashreplace")
        raise OSError(f"the layer's file was changed while it was read: {name!r} in it is not what it was")


def _file_has_payload(files: FileGetter, entry: FileEntry, tar: TarBytes, offset: int) -> bool:
    """Whether the file of the entry's name has the payload as its content, byte for byte."""
    from fastcrc import crc64

    # The checksum comes first: it needs the file alone, and nearly always decides.
    try:
        with files.open(entry.name) as file:
            left, crc = entry.size, None
            while left and (chunk := file.read(min(left, _CHUNK))):
                left -= len(chunk)
                crc = crc64.go_iso(chunk, crc)
            if left or file.read(1) or crc != entry.crc:
                return False
        with files.open(entry.name) as file:
            same = all(file.read(len(chunk)) == chunk for chunk in tar.range(offset, entry.size))
    except OSError:
        return False
    if not same:
        # Two contents with one CRC do not happen; they are made. The tar cannot be read backwards to
        # take this one inline, and nobody honest will miss it.
        raise InvalidLayer("two contents of one name with the same CRC-64", offset=offset, entry=entry.name)
    return True
