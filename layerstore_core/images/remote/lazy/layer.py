"""A layer of an image in a registry, as views read it: by its table of contents, or from its beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from layerstore_core.base.digests import DiffID
from layerstore_core.base.limits import Limit
from layerstore_core.base.threads import Task, Threads
from layerstore_core.errors import InvalidLayer
from layerstore_core.images.remote.lazy.place import TocPlace
from layerstore_core.images.remote.lazy.ranges import Blob, RangesIgnoredError
from layerstore_core.images.remote.lazy.source import TocBudget, get_toc
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
        budget: what the tables of the image may take.
        whole: fetch it whole, and compare both digests before anything of it is used; use no table of contents.
        several: whether several files of it may be read: without a table of contents, it is fetched whole, too.
    """

    def __init__(
        self,
        blob: Blob,
        place: TocPlace | None,
        diff_id: Callable[[], DiffID],
        limit: Limit,
        budget: TocBudget,
        *,
        whole: bool = False,
        several: bool = False,
    ) -> None:
        self._blob = blob
        self._place = None if whole else place
        self._limit = limit
        self._streamed = StreamedLayer(blob, diff_id, limit, whole=whole or several)
        self._budget = budget
        self._layer: StreamedLayer | TocLayer | None = None
        self._together: TablesTogether | None = None
        self._coming: Task[TocLayer | None] | None = None
        self._closed = False

    def fetch_with(self, together: TablesTogether) -> None:
        """When all entries are read, fetch the tables of the other layers meanwhile."""
        self._together = together

    def submit(self, threads: Threads) -> None:
        """Begin to fetch the table of contents, if there may be one and it is not here."""
        if self._place is not None and self._layer is None and self._coming is None and not self._closed:
            self._coming = threads.submit(self._by_table)

    def batches(self) -> Iterator[Batch]:
        """See `ViewLayer.batches`."""
        if self._together is not None:
            self._together.start()
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

    def plan(self, files: Iterable[FileNode]) -> None:
        """Say which contents will be read: with a table of contents, neighbours are fetched with one request."""
        layer = self._chosen()
        if isinstance(layer, TocLayer):
            layer.plan(files)

    def digest(self, file: FileNode) -> bytes:
        """Return the sha256 of a file's content, if it is known without the content; else nothing."""
        layer = self._chosen()
        return layer.digest(file) if isinstance(layer, TocLayer) else b""

    def close(self) -> None:
        """See `ViewLayer.close`."""
        self._closed = True
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.drop()
            coming.wait()  # for its end, if it has begun
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
            coming, self._coming = self._coming, None
            self._layer = (self._by_table() if coming is None else coming.result()) or self._streamed
        return self._layer

    def _by_table(self) -> TocLayer | None:
        if self._place is None:
            return None
        try:
            toc = get_toc(self._blob, self._place, self._budget)
        except RangesIgnoredError:
            logger.info("{}: the registry gives no parts of it, so it is read from its beginning", self._blob.digest)
            return None
        except InvalidLayer as error:
            if not self._blob.distrust():
                raise
            logger.info("{}; the next server is asked", error)
            return self._by_table()
        if toc is None:
            logger.info("{}: its end is not that of an eStargz layer: it is read from its beginning", self._blob.digest)
            return None
        return TocLayer(self._blob, toc, self._limit.bytes, self._budget)


class TablesTogether:
    """The layers of an image, of which the tables of contents are fetched at the same time.

    Args:
        layers: the layers.
    """

    #: How many are fetched at once.
    AT_ONCE: Final = 4

    def __init__(self, layers: Sequence[RemoteLayer]) -> None:
        self._layers = layers
        self._begun = False

    def start(self) -> None:
        """Begin to fetch the tables. A second call does nothing."""
        if self._begun or len(self._layers) < 2:
            return
        self._begun = True
        threads = Threads("layerstore-tables", self.AT_ONCE)
        for layer in self._layers:
            layer.submit(threads)
        threads.finish()
