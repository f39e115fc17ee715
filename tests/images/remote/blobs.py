"""Blobs in memory, which count what is read of them, and layers of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

from layerstore_core.base.digests import DiffID
from layerstore_core.base.limits import Limit
from layerstore_core.images.remote.lazy.layer import RemoteLayer
from layerstore_core.images.remote.lazy.place import place_of
from layerstore_core.images.remote.lazy.ranges import RangesIgnoredError
from layerstore_core.images.remote.lazy.source import TocBudget
from layerstore_core.view.tree import TreeView
from tests.images.remote.lazy_formats import Packed

LIMIT = Limit(1 << 30, "max_size", "argument")


class MemoryBlob:
    """A blob in memory.

    Attributes:
        requests: the ranges that were asked for.
        received: how many bytes were read.
        opened: how many transfers are going on.
        ranges: whether ranges are known.
    """

    def __init__(self, data: bytes, *, ranges: bool = True) -> None:
        self.data = data
        self.digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.size = len(data)
        self.ranges = ranges
        self.requests: list[tuple[int, int]] = []
        self.received = 0
        self.opened = 0

    def open(self, start: int = 0, end: int | None = None) -> _Reader:
        if start and not self.ranges:
            raise RangesIgnoredError
        self.requests.append((start, self.size if end is None else end))
        self.opened += 1
        return _Reader(self, self.data[start:end])

    def distrust(self) -> bool:
        return False


class _Reader:
    def __init__(self, blob: MemoryBlob, data: bytes) -> None:
        self._blob = blob
        self._file = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        data = self._file.read(min(size, 64 << 10))
        self._blob.received += len(data)
        return data

    def close(self) -> None:
        if not self._file.closed:
            self._blob.opened -= 1
        self._file.close()


def layer_of(
    blob: MemoryBlob,
    packed: Packed,
    *,
    whole: bool = False,
    diff_id: str | None = None,
    budget: TocBudget | None = None,
    limit: Limit = LIMIT,
) -> RemoteLayer:
    expected = DiffID(diff_id) if diff_id is not None else DiffID.of(packed.tar)
    return RemoteLayer(
        blob, place_of(packed.annotations, blob.size), lambda: expected, limit, budget or TocBudget(), whole=whole
    )


def view_of(*layers: Packed, whole: bool = False) -> tuple[TreeView, Sequence[MemoryBlob]]:
    """Return the view of layers, and their blobs."""
    blobs = [MemoryBlob(one.blob) for one in layers]
    return TreeView([layer_of(blob, one, whole=whole) for blob, one in zip(blobs, layers, strict=True)]), blobs
