"""A layer of an image in a registry, as views read it: by its table of contents, or from its beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from layerstore_core.base.digests import DiffID
from layerstore_core.base.limits import Limit
from layerstore_core.errors import InvalidLayer
from layerstore_core.images.remote.lazy.place import TocPlace
from layerstore_core.images.remote.lazy.ranges import Blob, RangesIgnoredError
from layerstore_core.images.remote.lazy.source import get_toc
from layerstore_core.images.remote.lazy.streamed import StreamedLayer
from layerstore_core.images.remote.lazy.toc_layer import TocLayer
from layerstore_core.log import logger
from layerstore_core.view.layers import Batch
from layerstore_core.view.nodes import FileNode
from layerstore_core.view.search import Found


class RemoteLayer:
    """A layer in a registry. Nothing is fetched before it is needed.

    Args:
        blob: the layer.
        place: where its table of contents is; `None` if it has none.
        diff_id: returns the digest of its tar.
        limit: the most bytes that the tar, or a file of it, may have.
        whole: fetch it whole, and compare both digests before anything of it is used; use no table of contents.
    """

    def __init__(
        self, blob: Blob, place: TocPlace | None, diff_id: Callable[[], DiffID], limit: Limit, *, whole: bool = False
    ) -> None:
        self._blob = blob
        self._place = None if whole else place
        self._limit = limit
        self._streamed = StreamedLayer(blob, diff_id, limit, whole=whole)
        self._layer: StreamedLayer | TocLayer | None = None

    def batches(self) -> Iterator[Batch]:
        """See `ViewLayer.batches`."""
        with self._advising():
            yield from self._chosen().batches()

    def search(self, wanted: Mapping[bytes, int]) -> Found:
        """See `SearchedLayer.search`."""
        with self._advising():
            return self._chosen().search(wanted)

    def payload(self, file: FileNode) -> Iterator[bytes]:
        """See `ViewLayer.payload`."""
        with self._advising():
            yield from self._chosen().payload(file)

    def digest(self, file: FileNode) -> bytes:
        """Return the sha256 of a file's content, if it is known without the content; else nothing."""
        layer = self._chosen()
        return layer.digest(file) if isinstance(layer, TocLayer) else b""

    def close(self) -> None:
        """See `ViewLayer.close`."""
        self._streamed.close()

    @contextmanager
    def _advising(self) -> Iterator[None]:
        """Say in errors of a table of contents how to do without it."""
        try:
            yield
        except InvalidLayer as error:
            if self._place is not None and not isinstance(self._layer, StreamedLayer):
                error.add_note("without its table of contents, it is read with --verify (in Python: verify=True)")
            raise

    def _chosen(self) -> StreamedLayer | TocLayer:
        if self._layer is None:
            self._layer = self._by_table() or self._streamed
        return self._layer

    def _by_table(self) -> TocLayer | None:
        if self._place is None:
            return None
        try:
            toc = get_toc(self._blob, self._place)
        except RangesIgnoredError:
            logger.info("{}: the registry gives no parts of it, so it is read from its beginning", self._blob.digest)
            return None
        if toc is None:
            logger.info("{}: its end is not that of an eStargz layer: it is read from its beginning", self._blob.digest)
            return None
        return TocLayer(self._blob, toc, self._limit.bytes)
