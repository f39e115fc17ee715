"""Layers as a view reads them: the entries of a tar without their contents, and the content of one file.

There are two kinds. A recorded layer has tar-split lines, which contain all headers, and files, which contain most
payloads. Any other layer has only its tar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import BinaryIO, Final, NamedTuple, Protocol

from layerstore_core.base.kernels import engine
from layerstore_core.base.limits import Limit
from layerstore_core.errors import IntegrityError, InvalidLayer
from layerstore_core.streams.hasher import Hasher
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.header import BLOCK
from layerstore_core.tar.run import entry_and_place
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tar.segments import read_segment
from layerstore_core.tarsplit.assemble import FileGetter
from layerstore_core.tarsplit.changed import CHECKSUM_DIFFERS, SIZE_DIFFERS, changed_error, open_or_raise
from layerstore_core.tarsplit.codec import LineReader, Piece, decode_blocks
from layerstore_core.unpack.create import mtime_to_set
from layerstore_core.view.nodes import FileNode

#: How many bytes are read at a time.
CHUNK: Final = 1 << 20
_ZEROS: Final = bytes(CHUNK)
_PLAIN: Final = (EntryType.FILE, EntryType.DIR)
_MAX_BATCH: Final = 1000

#: A regular file or a directory whose path needs no cleaning and is not a whiteout. The members: path; permission bits,
#: user and group; time in ns; size in bytes, -1 for a directory; name of the driver's file that has the payload, empty
#: for none; offset of the payload in the tar; CRC-64/GO-ISO of the payload, if it is in a driver's file.
PlainFile = tuple[bytes, tuple[int, int, int], int, int, bytes, int, int]


class OtherEntry(NamedTuple):
    """An entry of any kind, and where its payload is.

    Attributes:
        entry: the entry.
        name: the name of the driver's file that has the payload; empty for none.
        offset: where the payload begins in the tar, in bytes.
        crc: CRC-64/GO-ISO of the payload, if it is in a driver's file.
    """

    entry: TarEntry
    name: bytes
    offset: int
    crc: int


#: Plain files in a row, or one other entry.
Batch = list[PlainFile] | OtherEntry


class ViewLayer(Protocol):
    """A layer as a view reads it."""

    def batches(self) -> Iterator[Batch]:
        """Yield the entries of the layer's tar, in its order, without reading contents.

        Raises:
            IntegrityError: the layer's record is damaged.
            InvalidLayer: its tar is damaged.
        """

    def payload(self, file: FileNode) -> Iterator[bytes]:
        """Yield the payload of a file, in chunks, and verify it as far as possible.

        Raises:
            IntegrityError: the layer's files or record are damaged.
            InvalidLayer: its tar is damaged.
        """

    def close(self) -> None:
        """Close what was opened. A second call does nothing."""


class RecordedLayer:
    """A layer with tar-split lines. Listing it opens no file of the driver.

    Args:
        open_lines: opens its tar-split lines.
        open_files: opens the files that the driver keeps for it.
    """

    def __init__(self, open_lines: Callable[[], LineReader], open_files: Callable[[], FileGetter]) -> None:
        self._open_lines = open_lines
        self._open_files = open_files
        self._files: FileGetter | None = None

    def batches(self) -> Iterator[Batch]:
        """See `ViewLayer.batches`."""
        with self._open_lines() as lines:
            try:
                yield from _in_batches(_read_headers(decode_blocks(lines.blocks())))
            except InvalidLayer as error:
                raise IntegrityError(
                    f"the tar-split file of a layer is damaged: {error}; register the layer again from its source"
                ) from error

    @contextmanager
    def pieces(self) -> Iterator[Iterator[Iterable[Piece]]]:
        """Open the decoded lines for a `with` block, in which they need not be read to their end."""
        with self._open_lines() as lines:
            yield decode_blocks(lines.blocks())

    def payload(self, file: FileNode) -> Iterator[bytes]:
        """See `ViewLayer.payload`."""
        return self._file_payload(file) if file.name else self._inline_payload(file)

    def close(self) -> None:
        """See `ViewLayer.close`."""
        files, self._files = self._files, None
        close = getattr(files, "close", None)
        if close is not None:
            close()

    def _file_payload(self, file: FileNode) -> Iterator[bytes]:
        from fastcrc import crc64

        if self._files is None:
            self._files = self._open_files()
        left, crc = file.stored_size, None
        with open_or_raise(self._files.open, file.name) as content:
            while left and (chunk := content.read(min(left, CHUNK))):
                left -= len(chunk)
                crc = crc64.go_iso(chunk, crc)
                # The last chunk is only yielded once the whole is known to be right.
                if left:
                    yield chunk
            if left or content.read(1):
                raise changed_error(file.name, SIZE_DIFFERS.format(file.stored_size))
        if crc != file.crc:
            raise changed_error(file.name, CHECKSUM_DIFFERS)
        yield chunk

    def _inline_payload(self, file: FileNode) -> Iterator[bytes]:
        position, wanted, end = 0, file.offset, file.offset + file.stored_size
        with self._open_lines() as lines:
            for pieces in decode_blocks(lines.blocks()):
                for segment, _, size, _ in pieces:
                    after = position + len(segment)
                    if after > wanted:
                        part = segment[wanted - position : end - position]
                        wanted += len(part)
                        if part:
                            yield part
                        if wanted == end:
                            return
                    position = after + size
        raise IntegrityError(
            "the tar-split file of a layer is damaged: it lacks the content of a file; "
            "register the layer again from its source"
        )


class TarLayer:
    """A layer of which there is only the tar, which can be opened several times.

    Args:
        open_tar: opens the uncompressed tar; the result is closed after use.
        digest: the sha256 of the tar in hex, which is compared when all entries were read; `None`: it is not known.
        limit: the most bytes that the tar may have; `None` for any number.
    """

    def __init__(
        self, open_tar: Callable[[], BinaryIO], *, digest: str | None = None, limit: Limit | None = None
    ) -> None:
        self._open_tar = open_tar
        self._digest = digest
        self._limit = limit

    def batches(self) -> Iterator[Batch]:
        """See `ViewLayer.batches`."""
        with closing(self._open_tar()) as tar, Hasher() as hasher:
            size = 0

            def read_chunk() -> bytes:
                nonlocal size
                chunk = tar.read(CHUNK) or b""
                size += len(chunk)
                if self._limit is not None and size > self._limit.bytes:
                    raise InvalidLayer(f"it is larger than {self._limit}", offset=size)
                if self._digest is not None:
                    hasher.update(chunk)
                return chunk

            scanner = TarScanner(read_chunk)
            yield from _in_batches(one for one, _ in scan_entries(scanner))
            if self._digest is not None:
                for _ in scanner.trailer():
                    pass
                if (found := hasher.finish()) != self._digest:
                    raise InvalidLayer(f"the layer is damaged: its digest is sha256:{found}, not sha256:{self._digest}")

    def payload(self, file: FileNode) -> Iterator[bytes]:
        """See `ViewLayer.payload`."""
        with closing(self._open_tar()) as tar:
            skip = file.offset
            if getattr(tar, "seekable", lambda: False)():  # a driver's diff need not be a whole file object
                tar.seek(skip)
                skip = 0
            while skip and (chunk := tar.read(min(skip, CHUNK))):
                skip -= len(chunk)
            left = file.stored_size
            while left and (chunk := tar.read(min(left, CHUNK))):
                left -= len(chunk)
                yield chunk
            if left:
                raise InvalidLayer("the tar is shorter than when it was first read")

    def close(self) -> None:
        """See `ViewLayer.close`."""


def scan_entries(scanner: TarScanner) -> Iterator[tuple[OtherEntry, Iterator[bytes | memoryview]]]:
    """Yield the entries of a tar, each with its payload, which need not be read."""
    while True:
        while (run := scanner.next_run()) is not None:
            for number in range(len(run)):
                found, place = entry_and_place(run, number)
                yield OtherEntry(found, b"", place, 0), iter([run.payload(number)])
        entry = scanner.next_entry()[1]
        if entry is None:
            return
        payload = scanner.payload()
        yield OtherEntry(entry, b"", scanner.offset, 0), payload
        for _ in payload:
            pass


def _in_batches(entries: Iterable[Batch]) -> Iterator[Batch]:
    """Yield entries in their order, with plain files that follow each other in a list."""
    batch: list[PlainFile] = []
    try:
        for one in entries:
            plain = _plain_file(one) if isinstance(one, OtherEntry) else None
            if plain is not None:
                batch.append(plain)
            if batch and (plain is None or len(batch) >= _MAX_BATCH):
                yield batch
                batch = []
            if plain is None:
                yield one
    except InvalidLayer:
        if batch:
            yield batch  # what comes before the damage, as the kernels give it
        raise
    if batch:
        yield batch


def _plain_file(other: OtherEntry) -> PlainFile | None:
    """Return an entry as a plain file or directory; `None` if it is not plain."""
    entry, name, start, crc = other
    if entry.type not in _PLAIN or entry.xattrs or entry.sparse is not None:
        return None
    path = entry.path
    if not path or b".wh." in path or path[:2] == b"..":
        return None
    size = entry.size if entry.type is EntryType.FILE else -1
    return path, (entry.mode, entry.uid, entry.gid), mtime_to_set(entry), size, name, start, crc


class _PieceReader:
    """Reader of the pieces of a layer, one by one; plain files that follow each other at once, where there are kernels.

    Args:
        blocks: the pieces, as `decode_blocks` returns them.
    """

    def __init__(self, blocks: Iterator[Sequence[Piece]]) -> None:
        self._kernels = engine().kernels
        self._blocks = blocks
        self._block: Sequence[Piece] = ()
        self._at = 0

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        while self._at == len(self._block):
            self._block, self._at = next(self._blocks), 0
        self._at += 1
        return self._block[self._at - 1]

    def plain_files(self, padding: int, offset: int) -> tuple[list[PlainFile], int, int]:
        """Read the plain files that come next.

        Args:
            padding: the number of bytes of padding that the next piece begins with.
            offset: where it begins in the tar.

        Returns:
            The files, and the arguments for what comes after them. There may be more files then, unless there are none.
        """
        files: list[PlainFile] = []
        while not files:
            if self._at == len(self._block):
                self._block, self._at = next(self._blocks, ()), 0
            if self._kernels is None or not isinstance(self._block, self._kernels.Pieces):
                break
            files, self._at, padding, offset = self._kernels.headers(self._block, self._at, padding, offset)
            if self._at < len(self._block):
                break
        return files, padding, offset


def _read_headers(blocks: Iterator[Sequence[Piece]]) -> Iterator[Batch]:
    """Yield the entries of tar-split lines.

    Nearly all entries are a segment and a file, and have common headers. The scanner reads all others.
    """
    pieces = _PieceReader(blocks)
    offset = padding = 0
    while True:
        files, padding, offset = pieces.plain_files(padding, offset)
        if files:
            yield files
            continue
        piece = next(pieces, None)
        if piece is None:
            return
        segment, name, size, crc = piece
        entry = read_segment(segment, padding, size) if name else None
        if entry is not None:
            start = offset + len(segment)
            padding, offset = -size % BLOCK, start + size
            yield OtherEntry(entry, name if size else b"", start, crc)
            continue
        unusual = _UnusualEntries(piece, pieces, offset, padding)
        yield from unusual
        if unusual.at_end:
            return
        padding, offset = unusual.padding, unusual.offset


class _UnusualEntries:
    """The entries from a piece on, read by the scanner up to one that ends where a piece ends.

    The scanner gets zeros for the payloads that are in files.

    Args:
        first: the piece.
        pieces: those after it.
        offset: where the piece begins in the tar, in bytes.
        padding: how many bytes of padding it begins with.

    Attributes:
        offset: after the iteration: where the next piece begins.
        padding: after the iteration: how many bytes of padding that one begins with.
        at_end: after the iteration: whether the end of the archive was reached.
    """

    def __init__(self, first: Piece, pieces: Iterator[Piece], offset: int, padding: int) -> None:
        segment, name, size, crc = first
        self.padding = 0
        self.at_end = False
        self._pieces = chain([(segment[padding:], name, size, crc)], pieces)
        #: How many bytes of the tar come before those that the scanner gets.
        self._before = offset + padding
        #: How many bytes of the current payload the scanner has not got yet.
        self._left = 0
        #: Name and checksum of the files whose payloads were passed to the scanner, by offset in the tar.
        self._files: dict[int, tuple[bytes, int]] = {}
        self.offset = self._before

    def __iter__(self) -> Iterator[OtherEntry]:
        scanner = TarScanner(self._read_chunk)
        while (entry := scanner.next_entry()[1]) is not None:
            start = self._before + scanner.offset
            for _ in scanner.payload():
                pass
            yield OtherEntry(entry, *self._place(start))
            # After a global header, the scanner has to skip its padding.
            if entry.type is not EntryType.GLOBAL and self._before + scanner.offset == self.offset:
                self.padding = -entry.stored_size % BLOCK
                return
        self.at_end = True

    def _place(self, start: int) -> tuple[bytes, int, int]:
        name, crc = self._files.pop(start, (b"", 0))
        return name, start, crc

    def _read_chunk(self) -> bytes:
        """Return the next bytes of the tar, for the scanner."""
        while True:
            if self._left:
                chunk = _ZEROS[: self._left]
                self._left -= len(chunk)
                self.offset += len(chunk)
                return chunk
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            segment, name, self._left, crc = piece
            self.offset += len(segment)
            if self._left:
                self._files[self.offset] = name, crc
            if segment:
                return segment
