"""The one-pass tar scanner: entries, their payloads, and every byte between them.

The scanner pulls chunks from a source and never goes back. It returns everything that it reads as raw bytes, in order:
the segment before each entry (padding and headers), the payload, and the bytes after the last entry. Joined, they are
the tar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NoReturn

from layerstore_core.base.kernels import engine
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
    parse_header,
    parse_number,
    parse_string,
)
from layerstore_core.tar.pax import apply_records, parse_decimal, parse_records
from layerstore_core.tar.run import Run

#: Longest extended header or long name that is accepted, in bytes: Go's `archive/tar` has the same limit.
MAX_META: Final = 1 << 20
#: Longest sequence of headers of one entry, sparse maps included, in bytes. Real ones have some KiB.
MAX_HEADERS: Final = 16 << 20
#: The bytes after the archive come in pieces of this size, however the tar is read, as from tar-split's writer.
TRAILER_PIECE: Final = 1 << 20

#: Longest entry, or payload, that is joined if it is in several chunks, in bytes.
_MAX_JOINED: Final = 1 << 19
#: The most entries of a run, and the bytes of the tar after which no more entry of it begins.
_RUN_ENTRIES: Final = 1024
_RUN_BYTES: Final = 1 << 21

_META: Final = frozenset({b"x", b"X", b"g", b"L", b"K"})


class TarScanner:
    """A reader of one uncompressed tar, from start to end.

    Use: `next_entry()` until it returns `None` as entry, with `payload()` in between, then `trailer()`.

    Args:
        read_chunk: returns the next bytes of the tar, of any length, and `b""` at its end.

    Invariants. Between two calls of public methods:

    - The unread tar is `_buffer` from `_position` on, then the chunk in `_ahead` from its start on, then what
      `read_chunk` returns from now on. No byte is in two of them.
    - The unread tar begins with `_payload_left` bytes of the current entry's payload. `_padding` bytes of padding
      follow them, then the next header.
    - `_buffer_offset + _position` is the number of bytes that have been read of the tar: `offset`.

    While headers or the trailer are read, also `_segment_start <= _position`, and the buffer from `_segment_start` to
    `_position` is the raw segment that is to be returned. So `_have` may replace the buffer, but must keep these bytes.

    The fields, and why they are separate:

    - `_buffer`: the current chunk, or the end of one chunk joined with the beginning of the next. It is replaced, never
      changed: the memoryviews that were returned still refer to it.
    - `_ahead`: a chunk after the buffer, and the index of its first byte that is not in the buffer. It is separate so
      that, if a header goes on in the next chunk, only the missing bytes are copied. The rest is read in place, by
      `_switch`.
    - `_position`: the index in the buffer of the first unread byte.
    - `_segment_start`: the index in the buffer where the current segment begins. It is separate from `_position`
      because an entry may have several header blocks, and their raw bytes are returned together. Payloads do not move
      it: `next_entry` and `trailer` set it before they use it.
    - `_buffer_offset`: the offset in the tar of the buffer's first byte. It is separate because the indices above begin
      again with each buffer.
    - `_payload_left`: how many bytes of the current entry's payload have not been read. 0 outside of a payload.
    - `_padding`: how many bytes of padding follow the payload. They are not counted in `_payload_left`, because they
      belong to the next segment and not to the payload.
    - `_entry_name`: the name of the last entry, for error messages only. `None` before the first entry.
    - `_entries`: how many entries have been read. An error in the first header may say that the input is not a tar.
    """

    def __init__(self, read_chunk: Callable[[], bytes]) -> None:
        kernels = engine().kernels
        self._scan = None if kernels is None else kernels.scan
        self._read_chunk = read_chunk
        self._buffer = b""
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
        """The number of bytes of the tar that have been read."""
        return self._buffer_offset + self._position

    def next_entry(self) -> tuple[bytes, TarEntry | None]:
        """Read up to the next payload.

        Returns:
            The raw bytes since the last payload, and the entry whose headers they are. At the end of the archive the
            entry is `None`, and the bytes are the end marker, or the part of it that is there.

        Raises:
            InvalidLayer: the tar is malformed or ends too early.
        """
        if self._payload_left:
            for _ in self.payload():
                pass
        self._segment_start = self._position
        self._skip_padding(self._padding)
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
                entry = parse_header(block, first_offset)
                flag = entry.typeflag
                if flag not in _META:
                    break
                data = self._meta(entry)
                if flag == b"g":
                    # Its records apply to the header itself. As with Docker, they do not apply to the entries that
                    # follow.
                    padding = -len(data) % BLOCK
                    apply_records(entry, parse_records(data))
                    self._entries += 1
                    entry.size = entry.stored_size = 0
                    announced = self._announce(entry)
                    self._padding = padding  # part of the next segment, as in tar-split
                    return announced
                self._skip_padding(-len(data) % BLOCK)
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
                entry.type = EntryType.DIR  # v7 marks directories so
            self._decide_payload_size(entry)
            self._read_sparse_map(entry, block, records or {})
        except HeaderError as error:
            self._fail(str(error), at=offset, name=entry.name, cause=error)
        if len(entry.name) > MAX_NAME or len(entry.linkname) > MAX_NAME:
            self._fail(f"a name is longer than {MAX_NAME} bytes", at=offset, name=entry.name[:80])
        self._entries += 1
        return self._announce(entry)

    def next_run(self) -> Run | None:
        """Read the plain entries that come next; return `None`, and read nothing, if `next_entry` is needed.

        It always is where there are no kernels. The payload of the current entry must have been read before.
        """
        if self._scan is None:
            return None
        while True:
            found: Run = self._scan(
                self._buffer, self._position, self._padding, self._buffer_offset, _RUN_ENTRIES, _RUN_BYTES
            )
            if len(found):
                break
            # An entry that is in several chunks is joined, if it is small.
            self._segment_start = self._position
            if not 0 < found.needed <= _MAX_JOINED or not self._have(found.needed):
                return None
        self._position, self._padding = found.position, found.padding
        self._entries += len(found)
        self._entry_name = found.entry(len(found) - 1)[1]
        return found

    def whole_payload(self) -> memoryview | None:
        """Read the payload of the current entry in one piece; return `None`, and read nothing, if that is not possible.

        The piece stays valid. It is possible if the payload is in the buffer, or small. That is so for nearly all files
        of a layer.
        """
        count = self._payload_left
        if count > len(self._buffer) - self._position:
            self._segment_start = self._position
            if count > _MAX_JOINED or not self._have(count):
                return None
        start, self._position = self._position, self._position + count
        self._payload_left = 0
        return memoryview(self._buffer)[start : self._position]

    def payload(self) -> Iterator[memoryview]:
        """Read the payload of the current entry, in chunks that stay valid. `next_entry` skips the rest of it.

        Raises:
            InvalidLayer: the tar ends within the payload.
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
        """Read all bytes after the end of the archive, in pieces of `TRAILER_PIECE`; the last one is shorter."""
        self._segment_start = self._position
        while self._have(TRAILER_PIECE):
            self._position += TRAILER_PIECE
            yield self._segment()
            self._segment_start = self._position
        if self._position < len(self._buffer):
            self._position = len(self._buffer)
            yield self._segment()

    def _announce(self, entry: TarEntry) -> tuple[bytes, TarEntry]:
        """Make an entry the current one; return its segment and the entry."""
        self._entry_name = entry.name
        self._payload_left = entry.stored_size
        self._padding = -entry.stored_size % BLOCK
        return self._segment(), entry

    def _segment(self) -> bytes:
        return self._buffer[self._segment_start : self._position]

    def _have(self, count: int) -> bool:
        """Make `count` bytes available after the position, in one piece with the current segment.

        Of the next chunk, only the missing bytes are copied; the rest is read in place.

        Returns:
            Whether they are available. If not, the tar ends before.
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
        """Read a chunk into `_ahead` if that is empty; return `False` at the end of the tar."""
        chunk, start = self._ahead
        if start == len(chunk):
            self._ahead = self._read_chunk(), 0
        return len(self._ahead[0]) > 0

    def _switch(self) -> None:
        """Make the chunk in `_ahead` the buffer. No byte of the old buffer is needed any more."""
        start = self._ahead[1]
        self._buffer_offset += len(self._buffer) - start
        self._buffer = self._ahead[0]
        self._ahead = b"", 0
        self._position = self._segment_start = start

    def _advance_buffer(self) -> None:
        """Continue in the next chunk, within a payload."""
        if not self._fill_ahead():
            self._fail(
                f"the tar is cut off: {self._payload_left} bytes of the entry's content are missing",
                at=self._buffer_offset + len(self._buffer),
                name=self._entry_name,
            )
        self._switch()

    def _read(self, count: int, what: str) -> bytes:
        """Read `count` bytes of headers; `what` names them in an error message."""
        if not self._have(count):
            self._fail(f"the tar is cut off in {what}", at=self._buffer_offset + len(self._buffer))
        self._position += count
        if self._position - self._segment_start > MAX_HEADERS:
            self._fail(f"the headers of one entry are longer than {MAX_HEADERS} bytes", at=self.offset)
        return self._buffer[self._position - count : self._position]

    def _skip_padding(self, count: int) -> None:
        """Skip `count` bytes of padding, or as many as there are at the end of the tar.

        Missing padding loses no data. Go's reader, which Docker and umoci use, accepts a last entry without it.
        """
        self._have(count)
        self._position = min(self._position + count, len(self._buffer))

    def _next_header_block(self) -> bytes | None:
        """Read the next block; return `None` at the end of the archive: no more bytes, or a block of zeros."""
        if not self._have(BLOCK):
            if len(self._buffer) > self._position:
                start = self._buffer[self._position :]
                what = "a header" if self._entries or self.offset else f"its first header: {why_no_tar(start)}"
                self._fail(f"the tar is cut off in {what}", at=self._buffer_offset + len(self._buffer))
            return None
        block = self._buffer[self._position : self._position + BLOCK]
        self._position += BLOCK
        if block != ZERO_BLOCK:
            return block
        # The end marker is two blocks. One block alone also ends the archive, as with GNU tar. The bytes after it
        # belong to the trailer.
        if self._have(BLOCK) and self._buffer[self._position : self._position + BLOCK] == ZERO_BLOCK:
            self._position += BLOCK
        return None

    def _meta(self, header: TarEntry) -> bytes:
        """Read the content of an extended header or long name."""
        if header.size > MAX_META:
            raise HeaderError(f"the extended header has {header.size} bytes; at most {MAX_META} are accepted")
        return self._read(header.size, "an extended header")

    def _decide_payload_size(self, entry: TarEntry) -> None:
        """Decide whether an entry of a header-only type has a payload.

        Most writers put a size into its header that means nothing. Some (pax `linkdata`) do write the content of hard
        links. The next block decides: if there is no payload, it is another header, or the end of the archive.
        """
        if entry.typeflag not in HEADER_ONLY or not entry.size:
            return
        if self._have(BLOCK):
            following = self._buffer[self._position : self._position + BLOCK]
            no_payload = following == ZERO_BLOCK or is_header(following)
        else:
            no_payload = True
        entry.size = 0
        if no_payload:
            entry.stored_size = 0

    def _read_sparse_map(self, entry: TarEntry, block: bytes, records: dict[bytes, bytes]) -> None:
        """Read the map of a sparse file, if the entry is one, and set the entry's name, size and regions by it."""
        if entry.typeflag == b"S":
            if block[257:265] != b"ustar  \0":
                raise HeaderError("a sparse entry has a header that is not GNU's")
            entry.size = parse_number(block[483:495])
            regions = sparse.old_gnu_regions(block[386:482])
            extended = block[482]
            while extended:
                extension = self._read(BLOCK, "a sparse map")
                regions += sparse.old_gnu_regions(extension[:504])
                extended = extension[504]
                if len(regions) > sparse.MAX_REGIONS:
                    raise HeaderError(f"a sparse map has more than {sparse.MAX_REGIONS} regions")
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
        """Read a format 1.0 map from the beginning of the payload. It then counts as part of the header."""
        reader = sparse.Pax1MapReader()
        while not reader.complete:
            if entry.stored_size < BLOCK:
                raise HeaderError("the sparse map is longer than the entry")
            reader.feed(self._read(BLOCK, "a sparse map"))
            entry.stored_size -= BLOCK
        return reader.regions()

    def _fail(self, reason: str, *, at: int, name: bytes | None = None, cause: BaseException | None = None) -> NoReturn:
        raise InvalidLayer(reason, offset=at, entry=name or self._entry_name) from cause
