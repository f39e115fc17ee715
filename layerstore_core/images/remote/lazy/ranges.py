"""Blobs of a registry, read whole or in ranges."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

from layerstore_core.errors import InvalidLayer

if TYPE_CHECKING:
    from layerstore_core.images.remote.receive.download import Body
    from layerstore_core.registry import Registry

#: How many bytes are read at a time.
CHUNK: Final = 1 << 20
#: How many bytes of a whole blob are thrown away, if a server answers with it instead of the range that was asked for.
MAX_SKIPPED: Final = 1 << 20
#: Ranges with a gap of at most so many bytes between them are read at once: a request costs more than the bytes.
GAP: Final = 128 << 10
#: How many of the latest answers are suspected if bytes of a blob turn out to be wrong.
_SUSPECTS: Final = 8


class RangesIgnoredError(Exception):
    """The server answers with a whole blob instead of a range: only reading it from its beginning is possible."""


class Reader(Protocol):
    """Bytes that come in one after the other."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""

    def close(self) -> None:
        """End the transfer."""


class Blob(Protocol):
    """A blob that can be read in ranges.

    Attributes:
        digest: its digest, `sha256:…` or `sha512:…`.
        size: its size in bytes.
    """

    @property
    def digest(self) -> str: ...

    @property
    def size(self) -> int: ...

    def open(self, start: int = 0, end: int | None = None) -> Reader:
        """Begin to read a range, which is not verified.

        Args:
            start: the offset of its first byte.
            end: the offset after its last byte; `None` for the end of the blob.

        Raises:
            RangesIgnoredError: the server ignores ranges, and the range is too far from the beginning of the blob.
            LayerStoreError: the blob cannot be read.
        """

    def distrust(self) -> bool:
        """Report that bytes were wrong, and return whether another server can be asked.

        If they came from a mirror, it is not asked for a while.
        """


class RegistryBlob:
    """A blob of a repository.

    Args:
        registry: the registry.
        repository: the repository.
        digest: the digest of the blob.
        size: its size in bytes.
        places: other places that have it, if the registry does not (foreign layers).
    """

    def __init__(
        self, registry: Registry, repository: str, digest: str, size: int, places: tuple[str, ...] = ()
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._places = places
        self.digest = digest
        self.size = size
        #: Of the latest answers: reports that the bytes were wrong.
        self._distrust: deque[Callable[[], bool]] = deque(maxlen=_SUSPECTS)

    def open(self, start: int = 0, end: int | None = None) -> Reader:
        """See `Blob.open`."""
        whole = (start, end) == (0, None)
        response = self._begin(start, end)
        self._distrust.append(response.distrust)
        if whole or response.start == start:
            return response
        try:
            if start > MAX_SKIPPED:
                raise RangesIgnoredError
            skip = start
            while skip and (data := response.read(min(skip, CHUNK))):
                skip -= len(data)
        except BaseException:
            response.close()
            raise
        return response

    def distrust(self) -> bool:
        """See `Blob.distrust`."""
        mirrors = [distrust() for distrust in self._distrust]
        self._distrust.clear()
        return True in mirrors

    def _begin(self, start: int, end: int | None) -> Body:
        def ask() -> Body:
            return self._registry.blob(self._repository, self.digest, start=start, end=end, size=self.size)

        if not self._places:
            return ask()
        from layerstore_core.images.remote.receive.download import Blob as ForeignBlob
        from layerstore_core.images.remote.receive.foreign import open_blob

        return open_blob(ask, ForeignBlob(self.digest, self.size, self._places), start, end)


class PlannedBlob:
    """A blob of which it is known what will be read: neighbouring ranges are fetched with one request, into memory.

    Args:
        blob: the blob.
    """

    #: The most bytes that are fetched so at once, and how many such pieces are kept.
    LARGEST: Final = 8 << 20
    KEPT: Final = 4

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self.digest = blob.digest
        self.size = blob.size
        #: What is fetched at once, as offsets, sorted; and what of that is here.
        self._groups: list[tuple[int, int]] = []
        self._here: dict[tuple[int, int], bytes] = {}

    def plan(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Set the ranges that will be read, each at once, in any order."""
        groups: list[tuple[int, int, int]] = []
        for start, end in sorted(ranges):
            if end - start > self.LARGEST:
                continue
            if groups and start <= groups[-1][1] + GAP and max(end, groups[-1][1]) - groups[-1][0] <= self.LARGEST:
                first, last, count = groups[-1]
                groups[-1] = first, max(end, last), count + 1
            else:
                groups.append((start, end, 1))
        self._groups = [(start, end) for start, end, count in groups if count > 1]
        self._here.clear()

    def open(self, start: int = 0, end: int | None = None) -> Reader:
        """See `Blob.open`."""
        number = bisect_right(self._groups, (start, self.size)) - 1
        if end is None or number < 0 or end > self._groups[number][1]:
            return self._blob.open(start, end)
        group = self._groups[number]
        data = self._here.pop(group, None)
        if data is None:
            data = read_range(self._blob, *group)
        self._here[group] = data  # the last one is the latest
        while len(self._here) > self.KEPT:
            del self._here[next(iter(self._here))]
        return io.BytesIO(data[start - group[0] : end - group[0]])

    def distrust(self) -> bool:
        """See `Blob.distrust`."""
        self._here.clear()
        return self._blob.distrust()


class Window:
    """Ranges of a blob, one after the other: neighbours are read with one request.

    Args:
        blob: the blob.
    """

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._reader: Reader | None = None
        #: The offset of the next byte, and that after the last one of the request.
        self._position = self._end = 0

    def begin(self, start: int, end: int) -> None:
        """Begin a request for a range that may have several ranges in it."""
        self.close()
        self._reader = self._blob.open(start, end)
        self._position, self._end = start, end

    def go_to(self, start: int) -> None:
        """Throw bytes away up to an offset, which must not be before those that were read."""
        while self._position < start:
            self.read(start - self._position)

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size` of them; none at the end of the request.

        Raises:
            InvalidLayer: the server has sent fewer.
        """
        size = min(size, self._end - self._position, CHUNK)
        if not size:
            return b""
        assert self._reader is not None
        data = self._reader.read(size)
        if not data:
            raise InvalidLayer(f"{self._blob.digest} ends at byte {self._position}, before byte {self._end}")
        self._position += len(data)
        return data

    def close(self) -> None:
        """End the request. A second call does nothing."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def read_range(blob: Blob, start: int, end: int) -> bytes:
    """Return a range of a blob; errors as for `Blob.open` and `Window.read`."""
    window = Window(blob)
    try:
        window.begin(start, end)
        parts = []
        while data := window.read(CHUNK):
            parts.append(data)
        return b"".join(parts)
    finally:
        window.close()
