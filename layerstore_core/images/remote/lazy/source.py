"""Getting a table of contents from a registry, and comparing its digest before anything of it is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Final

from layerstore_core.errors import InvalidLayer
from layerstore_core.images.remote.lazy.place import FOOTER, TocPlace, offset_in_footer
from layerstore_core.images.remote.lazy.ranges import Blob, read_range
from layerstore_core.streams.compression import CHUNK, decompress
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.view.limits import MAX_ENTRIES

#: The longest table in bytes. A table of a million files has some 300 MB.
MAX_TOC: Final = 1 << 30
#: The most bytes of all tables of an image, as they are compressed and kept in memory: to a tenth of that.
MAX_COMPRESSED: Final = 128 << 20
#: The name of eStargz's table in the layer's tar.
_NAME: Final = b"stargz.index.json"


class TocBudget:
    """What the tables of all layers of an image may take, so that memory is bounded. Threads share it.

    Args:
        compressed: the most bytes of tables, as they are compressed.
        chunks: the most chunks of files.

    Attributes:
        chunks: how many more chunks there may be.
    """

    def __init__(self, compressed: int | None = None, chunks: int = MAX_ENTRIES) -> None:
        self._limit = self._left = MAX_COMPRESSED if compressed is None else compressed
        self._lock = Lock()
        self.chunks = chunks

    def take(self, blob: Blob, compressed: int) -> None:
        """Count the compressed bytes of a table.

        Raises:
            InvalidLayer: they are too many.
        """
        with self._lock:
            self._left -= compressed
            if self._left >= 0:
                return
        raise InvalidLayer(
            f"the table of contents of {blob.digest} has {compressed} bytes, as it is compressed; the tables of "
            f"all layers of an image may have {self._limit}"
        )


@dataclass(frozen=True)
class Toc:
    """A table of contents whose digest is right.

    Attributes:
        place: where it is.
        start: its offset in the blob.
        end: the offset after it.
        read: begins to read it, uncompressed, in chunks.
        entry: the table's own entry in the tar; `None` if it is no part of the tar.
        inner: where the table begins in what the stream at `start` decompresses to.
        sha256: the sha256 of the table, uncompressed.
    """

    place: TocPlace
    start: int
    end: int
    read: Callable[[], Iterator[bytes]]
    entry: TarEntry | None = None
    inner: int = 0
    sha256: bytes = b""


def get_toc(blob: Blob, place: TocPlace, budget: TocBudget) -> Toc | None:
    """Get the table of contents of a layer; `None` if the layer has none in a form that is known.

    Args:
        blob: the layer.
        place: where the table is.
        budget: what the tables of the image may take.

    Raises:
        InvalidLayer: the table is damaged or too long, or has another digest.
        RangesIgnoredError: the registry gives no ranges of the layer.
        LayerStoreError: the registry does not give it.
    """
    return (_estargz if place.form == "estargz" else _zstd)(blob, place, budget)


def _zstd(blob: Blob, place: TocPlace, budget: TocBudget) -> Toc:
    _check_length(blob, place.size)
    budget.take(blob, place.compressed)
    end = place.offset + place.compressed
    data = read_range(blob, place.offset, end)
    _check_digest(blob, place, _hash(place, [data]))

    def read() -> Iterator[bytes]:
        return _limited(_inflated(data, "zstd"), place.size, blob)

    return Toc(place, place.offset, end, read)


def _estargz(blob: Blob, place: TocPlace, budget: TocBudget) -> Toc | None:
    if blob.size <= FOOTER:
        return None
    start = offset_in_footer(read_range(blob, blob.size - FOOTER, blob.size), blob.size)
    if start is None:
        return None
    end = blob.size - FOOTER
    budget.take(blob, end - start)
    data = read_range(blob, start, end)
    scanner, entry = _open_tar(data, blob)
    assert entry is not None
    inner = scanner.offset
    sha256 = hashlib.sha256()

    def payload() -> Iterator[memoryview]:
        for piece in scanner.payload():
            sha256.update(piece)
            yield piece

    _check_length(blob, entry.size)
    _check_digest(blob, place, _hash(place, payload()))

    def read() -> Iterator[bytes]:
        return map(bytes, _open_tar(data, blob)[0].payload())

    return Toc(place, start, end, read, entry, inner, sha256.digest())


def _open_tar(data: bytes, blob: Blob) -> tuple[TarScanner, TarEntry]:
    """Return a scanner of the tar that has the table, up to its content."""
    chunks = _inflated(data, "gzip")
    scanner = TarScanner(lambda: next(chunks, b""))
    _, entry = scanner.next_entry()
    if entry is None or entry.path != _NAME or entry.type is not EntryType.FILE or entry.sparse is not None:
        raise InvalidLayer(f"there is no table of contents where the end of {blob.digest} says that it is")
    return scanner, entry


def _inflated(data: bytes, compression: str) -> Iterator[bytes]:
    pieces = iter([data[at : at + CHUNK] for at in range(0, len(data), CHUNK)])
    return iter(decompress(lambda: next(pieces, b""), compression), b"")


def _limited(chunks: Iterator[bytes], size: int, blob: Blob) -> Iterator[bytes]:
    """Yield chunks that must have a certain size together."""
    left = size
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise InvalidLayer(f"the table of contents of {blob.digest} has not the announced size of {size} bytes")


def _hash(place: TocPlace, pieces: Iterator[memoryview] | list[bytes]) -> str:
    algorithm = place.digest.partition(":")[0]
    digest = hashlib.new(algorithm)
    for piece in pieces:
        digest.update(piece)
    return f"{algorithm}:{digest.hexdigest()}"


def _check_digest(blob: Blob, place: TocPlace, found: str) -> None:
    if found != place.digest:
        raise InvalidLayer(
            f"the table of contents of {blob.digest} is damaged: its digest is {found}, and the manifest says "
            f"{place.digest}"
        )


def _check_length(blob: Blob, size: int) -> None:
    if size > MAX_TOC:
        raise InvalidLayer(f"the table of contents of {blob.digest} has {size} bytes; the limit is {MAX_TOC}")
