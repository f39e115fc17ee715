"""A layer with a table of contents: its entries come from the table, and contents by ranges."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from layerstore_core.errors import InvalidLayer
from layerstore_core.images.remote.lazy.chunks import Chunk, ChunkTable
from layerstore_core.images.remote.lazy.document import read_entries
from layerstore_core.images.remote.lazy.entries import digest, entry_of, name_of, number
from layerstore_core.images.remote.lazy.ranges import CHUNK, GAP, Blob, PlannedBlob, RangesIgnoredError, Window
from layerstore_core.images.remote.lazy.source import Toc, TocBudget
from layerstore_core.log import logger
from layerstore_core.streams.compression import decompress
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.unpack.create import mtime_to_set
from layerstore_core.view.content import zeros
from layerstore_core.view.layers import Batch, OtherEntry, PlainFile
from layerstore_core.view.limits import MAX_ENTRIES
from layerstore_core.view.nodes import FileNode
from layerstore_core.view.search import Found, search_all

_PLAIN: Final = (EntryType.FILE, EntryType.DIR)
_MAX_BATCH: Final = 1000
#: The most entries that are kept for further searches: some 300 bytes each.
_MAX_KEPT: Final = 100_000
_EMPTY: Final = hashlib.sha256().digest()
#: How much of a content is kept back until its digest is known. Chunks of eStargz have 4 MiB.
_KEPT_BACK: Final = 4 << 20


class TocLayer:
    """A layer with a table of contents, as a view reads it.

    A node's `offset` is negative: -1 minus the number of the file in the table. So it is no offset in a tar.

    Args:
        blob: the layer.
        toc: its table of contents.
        max_size: the largest size of a file in bytes.
        budget: what the tables of the image may take.
        max_entries: the most entries.
    """

    def __init__(self, blob: Blob, toc: Toc, max_size: int, budget: TocBudget, max_entries: int = MAX_ENTRIES) -> None:
        self._blob = PlannedBlob(blob)
        self._toc = toc
        self._max_size = max_size
        self._budget = budget
        self._max_entries = max_entries
        self._table: ChunkTable | None = None
        self._searched = False
        self._kept: list[Batch] | None = None

    def batches(self) -> Iterator[Batch]:
        """See `ViewLayer.batches`."""
        known = 0 if self._table is None else len(self._table)
        contents = _Contents(ChunkTable(self._toc.start, self._budget.chunks + known))
        batch: list[PlainFile] = []
        count = 0
        for item in read_entries(self._toc.read(), self._blob.digest):
            count += 1
            if count > self._max_entries:
                raise InvalidLayer(f"the table of contents of {self._blob.digest} has more than {count - 1} entries")
            if item.get("type") == "chunk":
                contents.add_chunk(item)
                continue
            entry = entry_of(item, self._max_size)
            offset = contents.add_entry(item, entry)
            path = entry.path
            if entry.type in _PLAIN and not entry.xattrs and path and b".wh." not in path and path[:2] != b"..":
                owner = entry.mode, entry.uid, entry.gid
                size = entry.size if entry.type is EntryType.FILE else -1
                batch.append((path, owner, mtime_to_set(entry), size, b"", offset, 0))
                if len(batch) < _MAX_BATCH:
                    continue
                yield batch
                batch = []
                continue
            if batch:
                yield batch
                batch = []
            yield OtherEntry(entry, b"", offset, 0)
        if batch:
            yield batch
        contents.finish()
        toc = self._toc
        if toc.entry is not None:
            own = contents.table.add_own(toc.end, toc.inner, toc.entry.size, toc.sha256)
            yield OtherEntry(toc.entry, b"", -1 - own, 0)
        self._budget.chunks += (0 if self._table is None else len(self._table)) - len(contents.table)
        self._table = contents.table

    def search(self, wanted: Mapping[bytes, int]) -> Found:
        """See `SearchedLayer.search`. From the second search on, the entries are kept, if they are not very many."""
        if self._kept is not None:
            return search_all(iter(self._kept), wanted)
        if not self._searched:
            self._searched = True
            return search_all(self.batches(), wanted)
        kept: list[Batch] = []
        found = search_all(_copied(self.batches(), kept), wanted)
        self._kept = kept or None
        return found

    def digest(self, file: FileNode) -> bytes:
        """Return the sha256 of a file's content; empty if the table has none."""
        return self._known().digest_of(-1 - file.offset)

    def plan(self, files: Iterable[FileNode]) -> None:
        """Say which contents will be read: neighbours are fetched with one request."""
        table = self._known()
        ranges = []
        for file in files:
            chunks = [chunk for chunk in map(table.chunk, table.chunks_of(-1 - file.offset)) if not chunk.zeros]
            if chunks:
                ranges.append((chunks[0].start, max(chunk.end for chunk in chunks)))
        self._blob.plan(ranges)

    def payload(self, file: FileNode) -> Iterator[bytes]:
        """See `ViewLayer.payload`. What a chunk of usual size has is yielded only once its digest is known."""
        begun = False
        while True:
            try:
                for piece in self._payload(file):
                    begun = True
                    yield piece
                return
            except InvalidLayer as error:
                if begun or not self._blob.distrust():
                    raise
                logger.info("{}; the next server is asked", error)

    def _payload(self, file: FileNode) -> Iterator[bytes]:
        table = self._known()
        numbers = table.chunks_of(-1 - file.offset)
        expected = table.digest_of(-1 - file.offset)
        whole = hashlib.sha256()
        kept: deque[bytes] = deque()
        size = 0
        window = Window(self._blob)
        try:
            for chunk, pieces in _read(window, table, numbers, self._toc):
                own = hashlib.sha256()
                for piece in pieces:
                    own.update(piece)
                    whole.update(piece)
                    kept.append(piece)
                    size += len(piece)
                    while size - len(kept[0]) > _KEPT_BACK:
                        size -= len(kept[0])
                        yield kept.popleft()
                if chunk.digest and own.digest() != chunk.digest:
                    raise self._damaged(own.hexdigest(), chunk.digest)
                while chunk.digest and len(kept) > 1:
                    size -= len(kept[0])
                    yield kept.popleft()
        except RangesIgnoredError:
            raise InvalidLayer(
                f"the registry gives parts of {self._blob.digest} at one time, and not at another"
            ) from None
        finally:
            window.close()
        if expected and whole.digest() != expected:
            raise self._damaged(whole.hexdigest(), expected)
        yield from kept

    def close(self) -> None:
        """See `ViewLayer.close`."""

    def _known(self) -> ChunkTable:
        if self._table is None:
            for _ in self.batches():
                pass
        assert self._table is not None
        return self._table

    def _damaged(self, found: str, expected: bytes) -> InvalidLayer:
        return InvalidLayer(
            f"a file in {self._blob.digest} is damaged: the sha256 of its content is {found}, and the layer's table of "
            f"contents says {expected.hex()}"
        )


def _copied(batches: Iterator[Batch], copies: list[Batch]) -> Iterator[Batch]:
    """Yield batches, and append them to a list, which is empty in the end if they have too many entries."""
    count = 0
    for batch in batches:
        count += len(batch) if isinstance(batch, list) else 1
        if count <= _MAX_KEPT:
            copies.append(batch)
        else:
            copies.clear()
        yield batch


class _Contents:
    """Checks that the chunks of each file are its content, and adds them to a table of chunks."""

    def __init__(self, table: ChunkTable) -> None:
        self.table = table
        self._file: TarEntry | None = None
        #: How much of the file is in chunks so far; the digest of all of it; and where its last chunk ends.
        self._covered = 0
        self._digest: bytes | None = None
        self._end = 0

    def add_entry(self, item: Mapping[str, Any], entry: TarEntry) -> int:
        """Add an entry; return the offset of its node."""
        self.finish()
        if entry.type is not EntryType.FILE:
            return 0
        file = self.table.add_file()
        if entry.size:
            self._file, self._covered, self._digest = entry, 0, digest(item, "digest")
            self._end = number(item, "endOffset")
            self._add(item, entry, 0)
        elif any(digest(item, key) not in (None, _EMPTY) for key in ("digest", "chunkDigest")):
            raise InvalidLayer("its table of contents says that it is empty, and has another digest", entry=entry.name)
        return -1 - file

    def add_chunk(self, item: Mapping[str, Any]) -> None:
        """Add a further chunk of the last file."""
        if self._file is None or name_of(item) != self._file.name:
            raise InvalidLayer("its table of contents has a chunk that belongs to no file", entry=name_of(item))
        self._add(item, self._file, number(item, "endOffset"))

    def finish(self) -> None:
        """Check the last file, of which no more chunks come."""
        file, self._file = self._file, None
        if file is None:
            return
        if self._covered != file.size:
            raise InvalidLayer(
                f"its table of contents has chunks of {self._covered} bytes for a file of {file.size}", entry=file.name
            )
        try:
            self.table.finish_file(self._end, self._digest or b"")
        except InvalidLayer as error:
            raise InvalidLayer(error.reason, entry=file.name) from None

    def _add(self, item: Mapping[str, Any], file: TarEntry, end: int) -> None:
        left = file.size - self._covered
        size = number(item, "chunkSize") or left
        if number(item, "chunkOffset") != self._covered or not 0 < size <= left:
            raise InvalidLayer("its table of contents has chunks of it that are not in a row", entry=file.name)
        own = digest(item, "chunkDigest")
        if own is None and self._digest is None:
            raise InvalidLayer("its table of contents has no digest of its content", entry=file.name)
        try:
            self.table.add_chunk(
                number(item, "offset"),
                end,
                number(item, "innerOffset"),
                size,
                own or b"",
                zeros=item.get("chunkType") == "zeros",
            )
        except InvalidLayer as error:
            raise InvalidLayer(error.reason, entry=file.name) from None
        self._covered += size


def _read(window: Window, table: ChunkTable, numbers: range, toc: Toc) -> Iterator[tuple[Chunk, Iterator[bytes]]]:
    """Yield chunks, each with its content, which has to be read before the next one."""
    requested = 0
    stream: _Stream | None = None
    for at in numbers:
        chunk = table.chunk(at)
        if chunk.zeros:
            yield chunk, zeros(chunk.size)
            continue
        if stream is None or stream.start != chunk.start:
            rest = range(at, numbers.stop)
            end = _end_of_stream(table, rest)
            if end > requested:
                requested = _end_of_request(table, rest)
                window.begin(chunk.start, requested)
            window.go_to(chunk.start)
            stream = _Stream(window, chunk.start, end, toc.place.compression)
        yield chunk, stream.read(chunk)


def _end_of_stream(table: ChunkTable, numbers: range) -> int:
    """Return the end of the compressed stream that has the first of some chunks, and maybe more of them."""
    first = table.chunk(numbers[0])
    end = first.end
    for chunk in map(table.chunk, numbers[1:]):
        if not chunk.zeros:
            if chunk.start != first.start:
                break
            end = max(end, chunk.end)
    return end


def _end_of_request(table: ChunkTable, numbers: range) -> int:
    """Return where a request ends that begins with the first of some chunks."""
    end = table.chunk(numbers[0]).end
    for chunk in map(table.chunk, numbers[1:]):
        if not chunk.zeros:
            if chunk.start > end + GAP:
                break
            end = max(end, chunk.end)
    return end


class _Stream:
    """One compressed stream, in which a file has one chunk, or several."""

    def __init__(self, window: Window, start: int, end: int, compression: str) -> None:
        self.start = start
        left = end - start

        def read() -> bytes:
            nonlocal left
            data = window.read(min(left, CHUNK))
            left -= len(data)
            return data

        self._read: Callable[[], bytes] = decompress(read, compression)
        self._position = 0
        self._left = memoryview(b"")

    def read(self, chunk: Chunk) -> Iterator[bytes]:
        """Yield the content of a chunk, which ends where its size says: no more is decompressed."""
        skip, size = chunk.inner - self._position, chunk.size
        self._position = chunk.inner + chunk.size
        while size:
            if not self._left:
                self._left = memoryview(self._read())
                if not self._left:
                    raise InvalidLayer(f"the compressed content of a file ends {size} bytes too early")
            piece = self._left[: skip or size]
            self._left = self._left[len(piece) :]
            if skip:
                skip -= len(piece)
                continue
            size -= len(piece)
            yield bytes(piece)
