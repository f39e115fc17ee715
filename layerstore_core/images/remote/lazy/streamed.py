"""A layer that is read from its beginning: as a stream, as far as needed, or whole into a temporary file.

The first readings are streams. A stream that is read to its end is compared with the digest of the blob and with the
diff ID. What is read once more comes from a temporary file without a name: no byte of a layer is fetched again and
again, and what was compared before cannot be another one then.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import BinaryIO, Final, cast

from layerstore_core.base import inside
from layerstore_core.base.digests import DiffID
from layerstore_core.base.limits import Limit
from layerstore_core.errors import InvalidLayer, while_doing
from layerstore_core.images.formats.container import Extent
from layerstore_core.images.remote.lazy.ranges import CHUNK, Blob, Reader
from layerstore_core.log import logger
from layerstore_core.streams.compression import MAGIC_SIZE, detect
from layerstore_core.streams.iterstream import IterStream
from layerstore_core.streams.prefetch import DecompressAhead
from layerstore_core.tar.entry import EntryType
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.view.layers import Batch, TarLayer, scan_entries
from layerstore_core.view.nodes import FileNode
from layerstore_core.view.search import EntrySearch, Found, search_all

#: How many readings for one file are streams.
_STREAMS: Final = 2


class StreamedLayer:
    """A layer that is read from its beginning.

    Args:
        blob: the layer, compressed or not.
        diff_id: returns the digest of its tar.
        limit: the most bytes that the tar may have.
        whole: never stop early: fetch the layer whole, once, and compare it before anything of it is used.
    """

    def __init__(self, blob: Blob, diff_id: Callable[[], DiffID], limit: Limit, *, whole: bool = False) -> None:
        self._blob = blob
        self._diff_id = diff_id
        self._limit = limit
        self._whole = whole
        self._streams = 0
        self._spool: tuple[BinaryIO, int] | None = None
        #: The stream that has stopped at a file, the offset of the file's content, and the content.
        self._stopped: tuple[_Stream, int, Iterator[bytes | memoryview]] | None = None

    def batches(self) -> Iterator[Batch]:
        """See `ViewLayer.batches`."""
        if self._whole or self._spool or self._streams:
            return self._spooled().batches()
        self._streams = _STREAMS
        return TarLayer(self._open_stream, digest=self._diff_id().hex, limit=self._limit).batches()

    def search(self, wanted: Mapping[bytes, int]) -> Found:
        """See `SearchedLayer.search`. A layer that is not `whole` is read up to the file."""
        if self._whole or self._spool or self._streams >= _STREAMS:
            return search_all(self._spooled().batches(), wanted)
        self._streams += 1
        while True:
            try:
                return self._search_stream(wanted)
            except InvalidLayer as error:
                if not self._blob.distrust():
                    raise
                logger.info("{}; the next server is asked", error)

    def _search_stream(self, wanted: Mapping[bytes, int]) -> Found:
        self._forget()
        search = EntrySearch(wanted)
        stream = _Stream(self._blob, self._limit)
        try:
            content = _search_in(stream, search, max(wanted, key=len))
            if content is None and not search.decided:
                stream.finish(self._diff_id())
            elif content is not None:
                self._stopped = stream, *content
        finally:
            if self._stopped is None:
                stream.close()
        return search.finish()

    def payload(self, file: FileNode) -> Iterator[bytes]:
        """See `ViewLayer.payload`."""
        stopped = self._stopped
        if stopped is not None and stopped[1] == file.offset:
            self._stopped = None
            logger.info("{}: not verified, since it is not read to its end", self._blob.digest)
            with closing(stopped[0]):
                for piece in stopped[2]:
                    yield bytes(piece)
            return
        yield from self._spooled().payload(file)

    def close(self) -> None:
        """See `ViewLayer.close`."""
        self._forget()
        spool, self._spool = self._spool, None
        if spool is not None:
            spool[0].close()

    def _forget(self) -> None:
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped[0].close()

    def _open_stream(self) -> BinaryIO:
        stream = _Stream(self._blob, self._limit)
        return cast("BinaryIO", IterStream(iter(stream.read_chunk, b""), stream.close))

    def _spooled(self) -> TarLayer:
        """Return the layer as a tar in a temporary file; fetch it first if it is not there yet."""
        if self._spool is None:
            directory = tempfile.gettempdir()
            with while_doing(f"writing a layer to a temporary file in {directory}"):
                spool = inside.temporary_file(directory)
            try:
                while (size := self._fill(spool, directory)) is None:
                    spool.seek(0)
                    spool.truncate()
            except BaseException:
                spool.close()
                raise
            self._spool = spool, size
        spool, size = self._spool
        return TarLayer(partial(_open_extent, spool.fileno(), size, self._blob.digest))

    def _fill(self, spool: BinaryIO, directory: str) -> int | None:
        """Write the layer's tar to a file; return its size, or `None` if it is damaged and another server has it."""
        size = 0
        try:
            with closing(_Stream(self._blob, self._limit)) as stream:
                while chunk := stream.read_chunk():
                    size += len(chunk)
                    left = memoryview(chunk)
                    with while_doing(f"writing a layer to a temporary file in {directory}"):
                        while left:
                            left = left[spool.write(left) :]
                stream.finish(self._diff_id())
        except InvalidLayer as error:
            if not self._blob.distrust():
                raise
            logger.info("{}; the next server is asked", error)
            return None
        return size


def _open_extent(descriptor: int, size: int, name: str) -> BinaryIO:
    return cast("BinaryIO", Extent(descriptor, 0, size, name))


def _search_in(stream: _Stream, search: EntrySearch, path: bytes) -> tuple[int, Iterator[bytes | memoryview]] | None:
    """Search a stream up to what decides.

    Returns:
        If that is a file at `path`: the offset of its content and the content, with which the stream goes on.
    """
    scanner = TarScanner(stream.read_chunk)
    for other, payload in scan_entries(scanner):
        if search.add(other):
            is_file = other.entry.type is EntryType.FILE and other.entry.path == path
            return (other.offset, payload) if is_file else None
    for _ in scanner.trailer():
        pass
    return None


class _Stream:
    """The uncompressed bytes of a blob, as they come in. Close it.

    Args:
        blob: the blob.
        limit: the most uncompressed bytes.
    """

    def __init__(self, blob: Blob, limit: Limit) -> None:
        self._blob = blob
        self._limit = limit
        self._received = self._size = 0
        self._hash = hashlib.new(blob.digest.partition(":")[0])
        self._diff = hashlib.sha256()
        self._reader: Reader = blob.open()
        self._ahead: DecompressAhead | None = None
        try:
            first = b""
            while len(first) < MAGIC_SIZE and (more := self._receive()):
                first += more
        except BaseException:
            self.close()
            raise
        self._first = first
        compression = detect(first)
        if compression is not None:
            self._ahead = DecompressAhead(self._next, compression)
        self._read = self._ahead.read_chunk if self._ahead else self._next

    def read_chunk(self) -> bytes:
        """Return the next uncompressed bytes; none at the end.

        Raises:
            InvalidLayer: the compression is damaged, or the layer is larger than allowed.
        """
        chunk = self._read()
        self._size += len(chunk)
        if self._size > self._limit.bytes:
            raise InvalidLayer(f"it is larger than {self._limit}", offset=self._size)
        self._diff.update(chunk)
        return chunk

    def finish(self, diff_id: DiffID) -> None:
        """Compare the digests, after the last chunk.

        Raises:
            InvalidLayer: one of them differs.
        """
        if (found := f"sha256:{self._diff.hexdigest()}") != diff_id:
            raise InvalidLayer(f"{self._blob.digest} is another layer: its diff ID is {found}, not {diff_id}")

    def close(self) -> None:
        """End the transfer. A second call does nothing."""
        if self._ahead is not None:
            self._ahead.stop()
        self._reader.close()

    def _next(self) -> bytes:
        first, self._first = self._first, b""
        return first or self._receive()

    def _receive(self) -> bytes:
        """Return the next bytes of the blob; compare its digest at the end."""
        data = self._reader.read(CHUNK)
        self._received += len(data)
        if self._received > self._blob.size or (not data and self._received < self._blob.size):
            raise InvalidLayer(f"{self._blob.digest} has another size than its descriptor says: {self._blob.size}")
        self._hash.update(data)
        if not data:
            found = f"{self._hash.name}:{self._hash.hexdigest()}"
            if found != self._blob.digest:
                raise InvalidLayer(f"{self._blob.digest} is damaged: its digest is {found}")
        return data
