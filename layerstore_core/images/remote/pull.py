"""Pulling images: what the store lacks of an image is received from a registry and loaded, while it is received."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from layerstore_core.base.reference import Reference
from layerstore_core.errors import BadRecord, IntegrityError, InvalidImage
from layerstore_core.images.formats.find import nothing_to_load
from layerstore_core.images.formats.found import ImageFiles, Skipped
from layerstore_core.images.keep.compressed import CompressedLayers
from layerstore_core.images.remote.documents import RemoteImage, Source, read_image
from layerstore_core.images.remote.events import BlobEvent, BlobProgress, State
from layerstore_core.images.remote.plan import Plan, PullOptions, known_document, plan_pull
from layerstore_core.images.remote.receive.download import Blob, Body, Download
from layerstore_core.images.remote.receive.downloads import Downloads
from layerstore_core.images.remote.receive.leftovers import downloads_directory
from layerstore_core.images.remote.referrers import ReferrerSource, add_referrers
from layerstore_core.images.remote.unchanged import already_loaded
from layerstore_core.images.remote.unrecorded import record_leftovers
from layerstore_core.images.transfer.load import Loaded, load
from layerstore_core.log import logger
from layerstore_core.records.blob_sources import BlobSource, BlobSources
from layerstore_core.store.context import StoreContext
from layerstore_core.store.store import LayerStore


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was pulled.

    Attributes:
        loaded: the images.
        skipped: what was not pulled of it, and why.
        digest: the digest of the manifest or index that the name stands for in the registry.
        fetched: how many bytes of layers were received now.
        downloaded: the digests of the layers that were received, now or in part before.
        present: the digests of the layers that were here already.
    """

    loaded: Loaded
    skipped: Sequence[Skipped]
    digest: str
    fetched: int
    downloaded: tuple[str, ...]
    present: tuple[str, ...]


def pull(store: LayerStore, source: Source, reference: Reference, options: PullOptions) -> Pulled:
    """Pull an image.

    Args:
        store: an open store.
        source: the registry.
        reference: the image's name there.
        options: what is pulled.

    Raises:
        RegistryError: the registry has no such image, or does not give it.
        InvalidImage: it cannot be loaded: it is damaged, is for another platform, or is no image.
        MaxDepthExceeded: it has more layers than the store allows.
        ReadOnlyStore: the store was opened for reading only.
        OSError: the system refuses an operation. What was received stays for the next pull.
    """
    context = store.context
    context.check_writable()
    image = read_image(
        source,
        reference,
        platform=options.platform,
        all_platforms=options.all_platforms,
        known=lambda digest: known_document(context, digest),
        last=_last_digest(context, options.name or reference),
    )
    skipped: list[Skipped] = []
    if options.referrers:
        assert isinstance(source, ReferrerSource)
        add_referrers(source, image, skipped)
    pulled = _Pull(store, source, image, options).run()
    return replace(pulled, skipped=[*pulled.skipped, *skipped])


class _Pull:
    """One pull of one image, of which the manifests are read."""

    def __init__(self, store: LayerStore, source: Source, image: RemoteImage, options: PullOptions) -> None:
        self._store = store
        self._context = store.context
        self._source = source
        self._image = image
        self._reference = image.reference
        self._options = options
        self._events = _Events(options.progress)

    def run(self) -> Pulled:
        plan = self._plan(local=False)
        self._events.present(plan.present)
        if not plan.blobs:
            plain = not (self._options.all_platforms or self._options.referrers)
            loaded = already_loaded(self._context, plan.found, self._image.digest) if plain else None
            return self._load(plan) if loaded is None else self._loaded(plan, loaded, 0)
        key = f"pull {self._store.driver_name} {self._image.digest}"
        if self._context.locks.is_exclusive_elsewhere(key):
            logger.info("waiting for another process that pulls {}", self._reference)
            self._events.all(plan.blobs, "elsewhere")
        with self._context.locks.exclusive(key):
            try:
                plan = self._plan(local=True)
                self._events.present(plan.present)
                return self._load(plan)
            except IntegrityError as error:
                logger.warning("a layer that is here cannot be used: {}; it is received", error)
                return self._load(self._plan(local=False))

    def _plan(self, *, local: bool) -> Plan:
        return plan_pull(self._store, self._source, self._image, self._options, local=local)

    def _load(self, plan: Plan) -> Pulled:
        self._events.all(plan.blobs, "waiting")
        fetched = 0
        loaded: Loaded | None = None
        again: set[str] = set()
        while loaded is None:
            with self._downloads(plan) as downloads:
                try:
                    loaded = load(self._store, plan.found, CompressedLayers(self._store))
                except InvalidImage as error:
                    # Each blob is received again once. An earlier pull may have left several that are damaged, of which
                    # the first that is read ends the attempt.
                    damaged = set(downloads.remove_damaged())
                    if damaged <= again:
                        raise
                    again |= damaged
                    logger.warning(
                        "{}: what was received is damaged, and is received again: {}", self._reference, error
                    )
                if loaded is not None:
                    self._remove(downloads)
            fetched += sum(one.fetched for one in downloads.all)  # now that all transfers have ended
        if not loaded.images:
            raise nothing_to_load(plan.found.container.name, plan.found.skipped)
        return self._loaded(plan, loaded, fetched)

    def _remove(self, downloads: Downloads) -> None:
        try:
            downloads.remove()
        except (BadRecord, OSError) as error:  # the image is there: a garbage collection removes them
            logger.warning("{}: files of layers that were received remain: {}", self._reference, error)

    def _loaded(self, plan: Plan, loaded: Loaded, fetched: int) -> Pulled:
        """Record what else is known now that the image is loaded, and return the result."""
        record_leftovers(self._store, plan.container, loaded.images)
        self._note_sources(plan.found.images, {blob.digest for blob in plan.blobs})
        return Pulled(
            loaded,
            [item for item in plan.found.skipped if not self._was_left_out(item)],
            self._image.digest,
            fetched,
            tuple(blob.digest for blob in plan.blobs),
            tuple(plan.present),
        )

    @contextmanager
    def _downloads(self, plan: Plan) -> Iterator[Downloads]:
        def fetch(blob: Blob, start: int, end: int | None) -> Body:
            def ask() -> Body:
                return self._source.blob(self._reference.path, blob.digest, start=start, end=end, size=blob.size)

            if not blob.urls:
                return ask()
            from layerstore_core.images.remote.receive.foreign import open_blob

            return open_blob(ask, blob, start, end)

        directory = downloads_directory(self._store.root)
        with Downloads(directory, plan.blobs, fetch, self._reference.domain, changed=self._events.changed) as downloads:
            plan.container.downloads = downloads
            downloads.start()
            yield downloads

    def _note_sources(self, images: Sequence[ImageFiles], received: set[str]) -> None:
        """Record that the repository has the blobs: a push to another one of the registry need not send them."""
        repository = f"{self._reference.domain}/{self._reference.path}"
        sources = BlobSources(self._context.image_db.path)
        layers = {
            layer.descriptor.digest: layer.diff_id
            for image in images
            for layer in image.layers
            if layer.descriptor is not None
        }
        new = [
            (diff_id, source)
            for digest, diff_id in layers.items()
            if (digest in received or digest == diff_id or sources.diff_id(digest) == diff_id)
            and (source := BlobSource(digest, repository)) not in sources.of(diff_id)
        ]
        if new:
            with self._context.changing_images():
                for diff_id, source in new:
                    sources.add(diff_id, [source])

    def _was_left_out(self, item: Skipped) -> bool:
        """Return whether an item of the index was left out because it was not asked for."""
        return item.digest in self._image.manifests and item.digest not in self._image.contents


class _Events:
    """The events of a pull, each passed on by one thread at a time."""

    def __init__(self, progress: BlobProgress | None) -> None:
        from threading import Lock

        self._progress = progress
        self._lock = Lock()
        self._present: set[str] = set()

    def report(self, digest: str, state: State, done: int, size: int) -> None:
        if self._progress is not None:
            with self._lock:
                self._progress(BlobEvent(digest, "layer", state, digest, done, size))

    def all(self, blobs: Sequence[Blob], state: State) -> None:
        for blob in blobs:
            self.report(blob.digest, state, 0, blob.size)

    def present(self, sizes: dict[str, int]) -> None:
        """Report layers that are here, each once, by their sizes."""
        for digest, size in sizes.items():
            if digest not in self._present:
                self._present.add(digest)
                self.report(digest, "exists", size, size)

    def changed(self, download: Download) -> None:
        if self._progress is not None:
            state = download.state
            done = download.received if state in ("downloading", "waiting") else download.position
            self.report(download.blob.digest, state, done, download.blob.size)


def _last_digest(context: StoreContext, name: Reference) -> str | None:
    """Return the digest that an image had in its registry when it was pulled last."""
    try:
        image = context.image_db.names().get(str(name))
        origin = None if image is None else context.kept.of_name(str(name), image)
    except (BadRecord, OSError):
        return None
    return None if origin is None else origin.digest
