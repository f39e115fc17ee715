"""Codec of tar-split lines, as Go's JSON encoder writes them.

Format: github.com/vbatts/tar-split, `tar/storage`; the fields and their order are those of its `Entry` type. Docker
compares nothing byte for byte, but users who compare two stores do.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Final, NamedTuple, Self

from layerstore_core.base.kernels import engine
from layerstore_core.errors import IntegrityError
from layerstore_core.tar.run import Run

#: The most bytes that this module writes into one segment.
MAX_SEGMENT: Final = 1 << 20
#: A longer line is damaged: the longest correct line is a header segment of a few MiB in base64.
_MAX_LINE: Final = 64 << 20
#: Bytes of lines decoded at a time: few enough that the allocator returns the same memory again, not new pages.
_READ_SIZE: Final = 1 << 18
_COMPRESSION_LEVEL: Final = 1  # of isal: the result is a tenth larger than with zlib's 6, but is made many times faster
_COMPRESS_AT: Final = 1 << 17

_SEGMENT_START: Final = b'{"type":2,"payload":"'
_NEEDS_ESCAPE: Final = '[\\x00-\\x1f"\\\\<>&\u2028\u2029]'
_SHORT_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Segment(NamedTuple):
    """Raw bytes of the tar: headers, padding, and payloads that are no file's content."""

    data: bytes


class FileEntry(NamedTuple):
    """Entry of the tar. If it has a size, its payload is the content of the file of that name."""

    name: bytes
    size: int = 0
    crc: int = 0


#: A segment and the entry that follows it: the segment's bytes, and the name, size and CRC-64 of the entry. Either may
#: be missing: then the bytes or the name are empty.
Piece = tuple[bytes, bytes, int, int]


def encode_segment(data: bytes | memoryview, position: int) -> bytes:
    """Return the line for a segment, newline included."""
    return b'{"type":2,"payload":"%b","position":%d}\n' % (_base64(data), position)


def encode_file(name: bytes, size: int, crc: int, position: int) -> bytes:
    """Return the line for a file entry, newline included.

    Args:
        name: the name's bytes in the tar.
        size: in bytes; 0 if the entry has no payload.
        crc: CRC-64/GO-ISO of the payload; not written for size 0.
        position: the line's position.
    """
    if not size:
        return b'{"type":1,%b"payload":null,"position":%d}\n' % (_name_field(name), position)
    checksum = _base64(crc.to_bytes(8, "big"))
    return b'{"type":1,%b"size":%d,"payload":"%b","position":%d}\n' % (_name_field(name), size, checksum, position)


def _name_field(name: bytes) -> bytes:
    """Return the JSON field for a name: `name` for UTF-8, else `name_raw` in base64; nothing for an empty name."""
    try:
        return b'"name":"%b",' % _escape(name.decode()).encode() if name else b""
    except UnicodeDecodeError:
        return b'"name_raw":"%b",' % _base64(name)


def _base64(data: bytes | memoryview) -> bytes:
    return b2a_base64(data, newline=False)


def _escape(text: str) -> str:
    return re.sub(_NEEDS_ESCAPE, lambda m: _SHORT_ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04x}", text)


def decode_lines(lines: Iterable[bytes], first: int = 1) -> Iterator[Segment | FileEntry]:
    """Decode lines, with or without their newlines.

    Args:
        lines: one line each.
        first: the number of the first line, for messages.

    Raises:
        IntegrityError: a line is not one of a tar-split file; the message has its number.
    """
    for number, line in enumerate(lines, first):
        try:
            yield decode_line(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Base64Error) as error:
            raise IntegrityError(f"tar-split line {number} is damaged: {error}") from error


def decode_line(line: bytes) -> Segment | FileEntry:
    """Decode one line, with its fields in any order.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: it is damaged.
    """
    import json  # lazy: the kernels read the usual lines

    fields = json.loads(line)
    payload = a2b_base64(fields["payload"] or "", strict_mode=True)
    if fields["type"] == 2:
        return Segment(payload)
    if fields["type"] != 1:
        raise ValueError(f"unknown type {fields['type']!r}")
    name = fields.get("name_raw")
    size = fields.get("size", 0)
    if not isinstance(size, int) or size < 0 or (size and len(payload) != 8):
        raise ValueError("a file entry without a proper size and checksum")
    raw = a2b_base64(name, strict_mode=True) if name else fields.get("name", "").encode()
    return FileEntry(raw, size, int.from_bytes(payload, "big"))


def decode_blocks(blocks: Iterable[bytes | memoryview]) -> Iterator[Sequence[Piece]]:
    """Decode whole lines in blocks, as `decode_lines` does.

    With the kernels, usual lines are decoded many at a time.

    Args:
        blocks: as `LineReader.blocks` returns them.

    Yields:
        Lists of pieces, or the kernels' `Pieces`.

    Raises:
        IntegrityError: as `decode_lines`, once everything before the damaged line was yielded.
    """
    kernels = engine().kernels
    number = 1
    for block in blocks:
        if kernels is None:
            lines = bytes(block).split(b"\n")[:-1]
            yield from _decode_plainly(lines, number)
            number += len(lines)
            continue
        at = 0
        while at < len(block):
            pieces = kernels.Pieces(block, at)
            if pieces.lines:
                yield pieces
                number += pieces.lines
            if pieces.end < len(block):
                yield from _decode_plainly([bytes(block[pieces.end : pieces.next]).rstrip(b"\n")], number)
                number += 1
            at = pieces.next


def decode_entries(blocks: Iterable[bytes | memoryview]) -> Iterator[Segment | FileEntry]:
    """Decode whole lines in blocks into what `decode_lines` returns for each, as quickly as `decode_blocks`.

    Args:
        blocks: as `LineReader.blocks` returns them.

    Raises:
        IntegrityError: as `decode_lines`.
    """
    for batch in decode_blocks(blocks):
        for segment, name, size, crc in batch:
            if segment or not (name or size):
                yield Segment(segment)
            if name or size:
                yield FileEntry(name, size, crc)


def size_of(batch: Sequence[Piece]) -> int:
    """Return how many bytes of the tar a batch from `decode_blocks` has."""
    size: int | None = getattr(batch, "size", None)  # the kernels' `Pieces` know it
    return sum(len(segment) + size for segment, _, size, _ in batch) if size is None else size


def _decode_plainly(lines: Sequence[bytes], first: int) -> Iterator[list[Piece]]:
    """Decode lines one at a time; yield everything before a damaged one before raising its error."""
    pieces: list[Piece] = []
    try:
        for item in decode_lines(lines, first):
            if isinstance(item, Segment):
                pieces.append((item.data, b"", 0, 0))
            elif item.name and pieces and not (pieces[-1][1] or pieces[-1][2]):
                pieces[-1] = (pieces[-1][0], *item)
            else:
                pieces.append((b"", *item))
    except IntegrityError:
        yield pieces
        raise
    yield pieces


class LineWriter:
    """Writer of lines as gzip into a file, which the caller has to close.

    The gzip header has no name and no time, so that equal lines give equal files.
    """

    def __init__(self, file: BinaryIO) -> None:
        from isal import isal_zlib

        self._file = file
        self._compressor = isal_zlib.compressobj(_COMPRESSION_LEVEL, isal_zlib.DEFLATED, 31)
        self._lines: list[bytes | bytearray] = []
        self._pending = 0
        self._position = 0

    def segment(self, data: bytes | memoryview) -> None:
        """Write a segment."""
        self._append(encode_segment(data, self._position))

    def payload(self, data: memoryview) -> None:
        """Write a payload inline, in segments of at most `MAX_SEGMENT`."""
        for start in range(0, len(data), MAX_SEGMENT):
            self.segment(data[start : start + MAX_SEGMENT])

    def file(self, name: bytes, size: int = 0, crc: int = 0) -> None:
        """Write a file entry."""
        self._append(encode_file(name, size, crc, self._position))

    def run(self, run: Run) -> None:
        """Write the segments of a run, each with its file entry."""
        kernels = engine().kernels
        assert kernels is not None
        self._append(kernels.lines(run, self._position), 2 * len(run))

    def finish(self) -> None:
        """Write everything that is still buffered. Nothing may be written after this."""
        self._compress()
        self._file.write(self._compressor.flush())

    def _append(self, line: bytes | bytearray, positions: int = 1) -> None:
        self._position += positions
        self._lines.append(line)
        self._pending += len(line)
        if self._pending >= _COMPRESS_AT:
            self._compress()

    def _compress(self) -> None:
        lines = self._lines[0] if len(self._lines) == 1 else b"".join(self._lines)
        self._file.write(self._compressor.compress(lines))
        self._lines.clear()
        self._pending = 0


class LineReader:
    """Reader of a gzip tar-split file, line by line, without the newlines. It owns the file.

    Raises (while iterating):
        IntegrityError: the gzip stream is corrupt or truncated, or a line is too long.
    """

    def __init__(self, file: BinaryIO) -> None:
        from isal import igzip

        self._file = file
        gzip_file: Any = igzip.GzipFile  # its stub has no types
        self._plain: BinaryIO = gzip_file(fileobj=file, mode="rb")

    def __iter__(self) -> Iterator[bytes]:
        for block in self.blocks():
            lines = bytes(block).split(b"\n")
            lines.pop()
            yield from lines

    def blocks(self) -> Iterator[memoryview]:
        """Yield the lines in blocks of about `_READ_SIZE`, newlines included: a call for each line would cost more.

        No block ends between a segment and the entry that follows it. The memory of a block is used again for the next.
        """
        from isal.igzip_lib import IsalError

        text = bytearray()
        filled = 0
        try:
            while True:
                # A long line is read in ever larger pieces, so that it is not copied for each piece.
                room = filled + max(_READ_SIZE, filled)
                if not room <= len(text) <= 4 * room:
                    text = text[:filled] + bytes(room)  # more than is requested: the rest of the last block varies
                view = memoryview(text)
                got = self._plain.readinto(view[filled:room])  # type: ignore[attr-defined]  # BinaryIO does not know it
                if not got:
                    break
                filled += got
                end = text.rfind(b"\n", 0, filled) + 1
                last = text.rfind(b"\n", 0, max(end - 1, 0)) + 1
                if text.startswith(_SEGMENT_START, last, filled):
                    end = last
                if end:
                    yield view[:end]
                    text[: filled - end] = text[end:filled]
                    filled -= end
                if filled > _MAX_LINE and filled - text.rfind(b"\n", 0, filled) > _MAX_LINE:
                    break
            end = text.rfind(b"\n", 0, filled) + 1
            if end:
                yield memoryview(text)[:end]
            if end < filled:
                raise IntegrityError("the tar-split file is damaged: it does not end with a whole line")
        except (EOFError, IsalError) as error:  # type: ignore[misc]  # the stub gives it no base
            raise IntegrityError(f"the tar-split file is damaged: {error}") from error
        except OSError as error:
            if error.errno is None:  # gzip raises this for a bad header
                raise IntegrityError(f"the tar-split file is damaged: {error}") from error
            raise

    def close(self) -> None:
        """Close the file."""
        self._plain.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
