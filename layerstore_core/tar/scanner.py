"""The one-pass tar scanner: entries, their payloads, and every byte between them.

The scanner pulls chunks from a source and never goes back. Everything it reads can be had again as
raw bytes, in order: the segment before each entry (padding and headers), the payload, and what
follows the last entry. Put together they are the tar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NoReturn

from layerstore_core.errors import InvalidLayer
from layerstore_core.streams.compression import why_no_tar
from layerstore_core.tar import sparse
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import (
    BLOCK,
    HEADER_ONLY,
    MAX_NAME,
    ZERO_BLOCK,
    HeaderError,
    is_header,
    parse_common_header,
    parse_header,
    parse_number,
    parse_string,
)
from layerstore_core.tar.pax import apply_records, parse_decimal, parse_records
from layerstore_core.tar.plain_entries import PlainEntry, take_plain_entries

#: Longest extended header or long name that is read, in bytes: Go's `archive/tar` has the same limit.
MAX_META: Final = 1 << 20
#: All headers of one entry together, sparse maps included, in bytes: real ones have some KiB.
MAX_HEADERS: Final = 16 << 20
#: What follows the archive comes in pieces of this many bytes, however the tar is read: tar-split's writer does so.
TRAILER_PIECE: Final = 1 << 20

#: A payload in two pieces is put together if it is not longer than this, in bytes.
_MAX_JOINED: Final = 1 << 19

_META: Final = frozenset({b"x", b"X", b"g", b"L", b"K"})
#: Entries that one header tells all of, where they have no payload or are files.
_SIMPLE: Final = frozenset({b"0", b"2", b"5"})


class TarScanner:
    """Reads one uncompressed tar from start to end.

    Args:
        read_chunk: gives the next bytes of the tar, of any length, and `b""` at its end.

    Use: `next_entry()` until it returns `None` as entry, with `payload()` in between, then `trailer()`.
    """

    def __init__(self, read_chunk: Callable[[], bytes]) -> None:
        self._read_chunk = read_chunk
        self._buffer = b""
        #: What has been read and is not in the buffer yet: the bytes of a chunk from a position on.
        self._ahead = b"", 0
        self._position = 0
        self._segment_start = 0
        self._buffer_offset = 0
        self._payload_left = 0
        self._padding = 0
        self._entry_name: bytes | None = None
        self._entries = 0

    @property
    def offset(self) -> int:
        """How far the tar has been scanned, in bytes."""
        return self._buffer_offset + self._position

    def next_entry(self) -> tuple[bytes, TarEntry | None]:
        """Read up to the next payload.

        Returns:
            The raw bytes since the last payload, and the entry that they announce; `None` at the
            end of the archive, where the bytes are the end marker as far as it is there.

        Raises:
            InvalidLayer: the tar is malformed or ends too early.
        """
        if self._payload_left:
            for _ in self.payload():
                pass
        simple = self._next_simple_entry()
        if simple is not None:
            return simple
        self._segment_start = self._position
        self._take_padding(self._padding)
        self._padding = 0
        records: dict[bytes, bytes] | None = None
        long_name = long_link = b""
        first_offset = self.offset
        while True:
            offset = self.offset
            block = self._next_header_block()
            if block is None:
                return self._segment(), None
            try:
                entry = parse_common_header(block, first_offset) or parse_header(block, first_offset)
                flag = entry.typeflag
                if flag not in _META:
                    break
                data = self._meta(entry)
                if flag == b"g":
                    # Its records name the header itself and, as with Docker, nothing that follows.
                    padding = -len(data) % BLOCK
                    apply_records(entry, parse_records(data))
                    self._entries += 1
                    entry.size = entry.stored_size = 0
                    announced = self._announce(entry)
                    self._padding = padding  # counted to the next segment, as tar-split does
                    return announced
                self._take_padding(-len(data) % BLOCK)
                if flag in b"xX":
                    records = parse_records(data)
                elif flag == b"L":
                    long_name = parse_string(data)
                else:
                    long_link = parse_string(data)
            except HeaderError as error:
                not_a_tar = f"{why_no_tar(block)}: " if offset == 0 and not is_header(block) else ""
                self._fail(f"{not_a_tar}{error}", at=offset, cause=error)
        try:
            if records:
                apply_records(entry, records)
            if long_name:
                entry.name = long_name
            if long_link:
                entry.linkname = long_link
            if entry.typeflag == b"\0" and entry.name.endswith(b"/"):
                entry.type = EntryType.DIR  # how v7 writes directories
            self._settle_size(entry)
            self._read_sparse_map(entry, block, records or {})
        except HeaderError as error:
            self._fail(str(error), at=offset, name=entry.name, cause=error)
        if len(entry.name) > MAX_NAME or len(entry.linkname) > MAX_NAME:
            self._fail(f"a name is longer than {MAX_NAME} bytes", at=offset, name=entry.name[:80])
        self._entries += 1
        return self._announce(entry)

    def plain_entries(self) -> list[PlainEntry]:
        """The plain entries that come next and are at hand, all of each; none where `next_entry` is needed.

        The payload of the current entry must have been taken.
        """
        entries, self._position, self._padding = take_plain_entries(
            self._buffer, self._position, self._padding, self._buffer_offset
        )
        if entries:
            self._entry_name = entries[-1][1]
            self._entries += len(entries)
        return entries

    def whole_payload(self) -> memoryview | None:
        """The payload of the current entry in one piece that stays valid; `None`, and not taken, where it is not at hand.

        Nearly all files of a layer are so small that they are.
        """
        start = self._position
        end = start + self._payload_left
        if end > len(self._buffer):
            return self._joined_payload()
        self._position = end
        self._payload_left = 0
        return memoryview(self._buffer)[start:end]

    def _joined_payload(self) -> memoryview | None:
        """A small payload that goes on in the next chunk, and ends there; `None`, and not taken, if it is not so."""
        missing = self._position + self._payload_left - len(self._buffer)
        if self._payload_left > _MAX_JOINED or not self._fill_ahead() or missing > len(self._ahead[0]) - self._ahead[1]:
            return None
        begun = self._buffer[self._position :]
        self._switch()
        start = self._position
        self._position = start + missing
        self._payload_left = 0
        view = memoryview(self._buffer)[start : self._position]
        return memoryview(begun + view) if begun else view

    def payload(self) -> Iterator[memoryview]:
        """The payload of the current entry, in chunks that stay valid; what is not taken is skipped later.

        Raises:
            InvalidLayer: the tar ends within it.
        """
        while self._payload_left:
            available = len(self._buffer) - self._position
            if not available:
                self._advance_buffer()
                continue
            take = min(available, self._payload_left)
            start = self._position
            self._position += take
            self._payload_left -= take
            yield memoryview(self._buffer)[start : start + take]

    def trailer(self) -> Iterator[bytes]:
        """All that follows the end of the archive, in pieces of `TRAILER_PIECE`, the last one shorter."""
        self._segment_start = self._position
        while self._have(TRAILER_PIECE):
            self._position += TRAILER_PIECE
            yield self._segment()
            self._segment_start = self._position
        if self._position < len(self._buffer):
            self._position = len(self._buffer)
            yield self._segment()

    def _next_simple_entry(self) -> tuple[bytes, TarEntry] | None:
        """The next entry, where a single common header announces it and is at hand; `None`, and nothing read, otherwise.

        Of most tars these are nearly all entries. What it gives is what the long way would give.
        """
        buffer = self._buffer
        start = self._position
        at = start + self._padding
        end = at + BLOCK
        if end > len(buffer):
            return None
        entry = parse_common_header(buffer[at:end], self._buffer_offset + at)
        if entry is None or entry.typeflag not in _SIMPLE:
            return None
        size = entry.size
        if size and entry.typeflag != b"0":
            return None
        self._segment_start = start
        self._position = end
        self._payload_left = size
        self._padding = -size % BLOCK
        self._entry_name = entry.name
        self._entries += 1
        return buffer[start:end], entry

    def _announce(self, entry: TarEntry) -> tuple[bytes, TarEntry]:
        self._entry_name = entry.name
        self._payload_left = entry.stored_size
        self._padding = -entry.stored_size % BLOCK
        return self._segment(), entry

    def _segment(self) -> bytes:
        return self._buffer[self._segment_start : self._position]

    def _have(self, count: int) -> bool:
        """Make `count` bytes available behind the position, in one piece with the segment before them.

        Of the next chunk only what is missing is copied: the rest is scanned where it is.
        """
        while (missing := count - (len(self._buffer) - self._position)) > 0:
            if not self._fill_ahead():
                return False
            chunk, start = self._ahead
            if self._segment_start == len(self._buffer):
                self._switch()
                continue
            taken = chunk[start : start + missing]
            self._buffer_offset += self._segment_start
            self._buffer = self._buffer[self._segment_start :] + taken
            self._position -= self._segment_start
            self._segment_start = 0
            self._ahead = chunk, start + len(taken)
        return True

    def _fill_ahead(self) -> bool:
        """See to it that there is something behind the buffer; `False` at the end."""
        chunk, start = self._ahead
        if start == len(chunk):
            self._ahead = self._read_chunk(), 0
        return len(self._ahead[0]) > 0

    def _switch(self) -> None:
        """Go on in what is behind the buffer, of which no byte is needed any more."""
        start = self._ahead[1]
        self._buffer_offset += len(self._buffer) - start
        self._buffer = self._ahead[0]
        self._ahead = b"", 0
        self._position = self._segment_start = start

    def _advance_buffer(self) -> None:
        """Go on to the next chunk within a payload."""
        if not self._fill_ahead():
            self._fail(
                f"the tar is cut off: {self._payload_left} bytes of the entry's content are missing",
                at=self._buffer_offset + len(self._buffer),
                name=self._entry_name,
            )
        self._switch()

    def _take(self, count: int, what: str) -> bytes:
        if not self._have(count):
            self._fail(f"the tar is cut off in {what}", at=self._buffer_offset + len(self._buffer))
        self._position += count
        if self._position - self._segment_start > MAX_HEADERS:
            self._fail(f"the headers of one entry are longer than {MAX_HEADERS} bytes", at=self.offset)
        return self._buffer[self._position - count : self._position]

    def _take_padding(self, count: int) -> None:
        """Go on behind `count` bytes of padding, or to the end of a tar that leaves some of it out.

        Nothing is lost without it: Go's reader, which Docker and umoci use, takes the last entry so.
        """
        self._have(count)
        self._position = min(self._position + count, len(self._buffer))

    def _next_header_block(self) -> bytes | None:
        """The next block, `None` at the end of the archive: no more bytes, or a block of zeros."""
        if not self._have(BLOCK):
            if len(self._buffer) > self._position:
                begin = self._buffer[self._position :]
                what = "a header" if self._entries or self.offset else f"its first header: {why_no_tar(begin)}"
                self._fail(f"the tar is cut off in {what}", at=self._buffer_offset + len(self._buffer))
            return None
        block = self._buffer[self._position : self._position + BLOCK]
        self._position += BLOCK
        if block != ZERO_BLOCK:
            return block
        # The end marker is two blocks. One alone ends the archive too, as with GNU tar; what then
        # follows belongs to the trailer.
        if self._have(BLOCK) and self._buffer[self._position : self._position + BLOCK] == ZERO_BLOCK:
            self._position += BLOCK
        return None

    def _meta(self, header: TarEntry) -> bytes:
        """The content of an extended header or long name."""
        if header.size > MAX_META:
            raise HeaderError(f"an extended header of {header.size} bytes; at most {MAX_META} are accepted")
        return self._take(header.size, "an extended header")

    def _settle_size(self, entry: TarEntry) -> None:
        """Find out whether an entry of a header-only type is followed by a payload after all.

        Most writers put a size there that means nothing; some (pax `linkdata`) do write the content
        of hard links. The next block tells: after a bare header comes another header, or the end.
        """
        if entry.typeflag not in HEADER_ONLY or not entry.size:
            return
        if self._have(BLOCK):
            following = self._buffer[self._position : self._position + BLOCK]
            bare = following == ZERO_BLOCK or is_header(following)
        else:
            bare = True
        entry.size = 0
        if bare:
            entry.stored_size = 0

    def _read_sparse_map(self, entry: TarEntry, block: bytes, records: dict[bytes, bytes]) -> None:
        if entry.typeflag == b"S":
            if block[257:265] != b"ustar  \0":
                raise HeaderError("a sparse entry whose header is not GNU's")
            entry.size = parse_number(block[483:495])
            regions = sparse.old_gnu_regions(block[386:482])
            extended = block[482]
            while extended:
                extension = self._take(BLOCK, "a sparse map")
                regions += sparse.old_gnu_regions(extension[:504])
                extended = extension[504]
                if len(regions) > sparse.MAX_REGIONS:
                    raise HeaderError(f"a sparse map with more than {sparse.MAX_REGIONS} regions")
        else:
            version = sparse.pax_version(records)
            if version is None or entry.type is not EntryType.FILE:
                return
            entry.name = parse_string(records.get(b"GNU.sparse.name", b"")) or entry.name
            size = records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize")
            if size:
                entry.size = parse_decimal(size, "sparse file's size")
            regions = sparse.pax_0_regions(records) if version == "0.x" else self._pax_1_regions(entry)
        sparse.check_regions(regions, entry.size, entry.stored_size)
        entry.sparse = regions

    def _pax_1_regions(self, entry: TarEntry) -> sparse.Regions:
        """Read a format 1.0 map off the front of the payload; it then counts as part of the header."""
        reader = sparse.Pax1MapReader()
        while not reader.complete:
            if entry.stored_size < BLOCK:
                raise HeaderError("the sparse map is longer than the entry")
            reader.feed(self._take(BLOCK, "a sparse map"))
            entry.stored_size -= BLOCK
        return reader.regions()

    def _fail(self, reason: str, *, at: int, name: bytes | None = None, cause: BaseException | None = None) -> NoReturn:
        raise InvalidLayer(reason, offset=at, entry=name or self._entry_name) from cause
