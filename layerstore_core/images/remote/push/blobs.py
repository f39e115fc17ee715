"""A repository of a registry as the output of a save: blobs that it has, or can mount, are not read at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from layerstore_core.base.digests import DiffID
from layerstore_core.base.reference import Reference
from layerstore_core.errors import LayerStoreError
from layerstore_core.images.keep.layer_blobs import NotFetched
from layerstore_core.images.output import WrongSize
from layerstore_core.images.remote.events import BlobEvent, BlobProgress, State
from layerstore_core.images.results import PushedBlob
from layerstore_core.log import logger
from layerstore_core.records.blob_sources import BlobSource, BlobSources
from layerstore_core.registry.errors import (
    InvalidAnswer,
    NotInRegistry,
    RegistryDenied,
    RegistryError,
    RegistryUnavailable,
)

if TYPE_CHECKING:
    from layerstore_core.registry import Registry
    from layerstore_core.registry.hosts import RegistrySettings
    from layerstore_core.registry.results import Upload
    from layerstore_core.store.handles import Layer

#: A blob is tried to be mounted from at most so many repositories, those where it was seen last: each costs a request.
_MOUNTS: Final = 3
#: The longest silence of a registry that a blob is fetched from, in seconds: there is another way.
_TIMEOUT: Final = 10.0
#: At most so many blobs that a layer has had are looked for.
_CANDIDATES: Final = 4
_MAGIC: Final = 6
_CHUNK: Final = 1 << 20

BlobState = Literal["exists", "mounted", "uploaded", "left"]
_EVENTS: Final[Mapping[BlobState, State]] = {
    "exists": "exists",
    "mounted": "mounted",
    "uploaded": "done",
    "left": "left",
}


class RepositoryOutput:
    """The blobs of one repository, to be written; thread-safe. It is an `Output`, and the `Places` of layers.

    Args:
        registry: the registry.
        host: its name in names of images.
        repository: the repository, without its registry.
        sources: where compressed blobs of layers were seen.
        foreign: the sizes of the blobs that are not pushed, by their digests.
        configs: the digests of the configs.
        settings: the settings of other registries, which blobs may be fetched from.
        progress: called with each event.

    Attributes:
        blobs: the blobs that the repository has by now, by their digests.
        layers: the layers of the blobs, by their digests.
    """

    def __init__(
        self,
        registry: Registry,
        host: str,
        repository: str,
        sources: BlobSources,
        *,
        foreign: Mapping[str, int],
        configs: frozenset[str],
        settings: RegistrySettings,
        progress: BlobProgress | None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._host = host
        self._repository = repository
        self._sources = sources
        self._foreign = foreign
        self._configs = configs
        self._progress = progress
        self._lock = threading.Lock()
        self._absent: set[str] = set()
        self._begun: dict[str, Upload] = {}
        self._others: dict[str, Registry] = {}
        self._gone: set[str] = set()
        self.blobs: dict[str, PushedBlob] = {}
        self.layers: dict[str, DiffID] = {}

    # As the `Places` of layers

    def candidates(self, layer: Layer) -> Sequence[str]:
        registered = (layer.descriptor or {}).get("digest")
        found = [registered] if isinstance(registered, str) and self._is_of(layer, registered) else []
        found += [source.digest for source in self._sources.of(layer.diff_id)]
        return list(dict.fromkeys(found))[:_CANDIDATES]

    def put(self, layer: Layer, digest: str) -> int | None:
        # The digest may come from a manifest whose layers were never compared with this one.
        if not self._is_of(layer, digest):
            return None
        self.layers[digest] = layer.diff_id
        if digest in self._foreign:
            self._settle(digest, self._foreign[digest], "left")
            return self._foreign[digest]
        here = f"{self._host}/"
        known = [
            source.repository.removeprefix(here)
            for source in self._sources.of(layer.diff_id)
            if source.digest == digest and source.repository.startswith(here)
        ]
        return self._find(digest, [one for one in known if one != self._repository][:_MOUNTS])

    def elsewhere(self, layer: Layer, digest: str) -> tuple[int, Callable[[], Iterator[bytes]]] | None:
        if not self._is_of(layer, digest):
            return None
        target = f"{self._host}/{self._repository}"
        known = [
            source.repository
            for source in self._sources.of(layer.diff_id)
            if source.digest == digest and source.repository != target
        ]
        for repository in known[:_MOUNTS]:
            host = repository.partition("/")[0]
            if host in self._gone:
                continue
            try:
                where = Reference.parse(repository, default_tag=None)
                registry = self._open(where.domain)
                with registry.blob(where.path, digest, end=1) as blob:
                    size = blob.size
            except LayerStoreError as error:
                if isinstance(error, RegistryUnavailable):  # other layers need not wait for it, too
                    self._gone.add(host)
                logger.info("{} is not fetched from {}: {}", digest, repository, error)
                continue
            if size is not None:
                logger.info("{} is fetched from {}", digest, repository)
                return size, partial(_content, registry, where.path, digest, size)
        return None

    def start_of(self, digest: str) -> bytes:
        with self._registry.blob(self._repository, digest, end=_MAGIC) as blob:
            found = b""
            while len(found) < _MAGIC and (chunk := blob.read(_MAGIC - len(found))):
                found += chunk
            return found

    def _is_of(self, layer: Layer, digest: str) -> bool:
        """Return whether it was verified that a blob is of a layer."""
        return digest == layer.diff_id or self._sources.diff_id(digest) == layer.diff_id

    # As the `Output` of blobs

    def add(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        digest = path.removeprefix("blobs/").replace("/", ":", 1)
        if self._find(digest, ()) is not None:
            return
        self.report(digest, "uploading", size=size)
        self._registry.upload_blob(
            self._repository,
            digest,
            size,
            lambda: self._counted(digest, size, chunks),
            upload=self._begun.pop(digest, None),
        )
        self._settle(digest, size, "uploaded")

    def _counted(self, digest: str, size: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass chunks through one late, so that an error at their end is raised before all of them are sent."""
        done, held = 0, b""
        for chunk in chunks:
            done += len(chunk)
            if done > size:
                break
            if held:
                yield held
                self.report(digest, "uploading", done=done - len(chunk), size=size)
            held = chunk
        if done != size:
            raise WrongSize(f"{digest} should have {size} bytes, and has fewer or more")
        if held:
            yield held
            self.report(digest, "uploading", done=size, size=size)

    def _find(self, digest: str, sources: Sequence[str]) -> int | None:
        """Return the size of a blob that the repository has, or that it has mounted now."""
        if (blob := self.blobs.get(digest)) is not None:
            return blob.size
        if digest in self._absent:
            return None
        state: BlobState = "exists"
        if (size := self._size_of(digest)) is None and any(self._mount(digest, source) for source in sources):
            state, size = "mounted", self._size_of(digest)
        if size is None:
            self._absent.add(digest)
            return None
        self._settle(digest, size, state)
        return size

    def _size_of(self, digest: str) -> int | None:
        try:
            return self._registry.blob_size(self._repository, digest)
        except RegistryDenied:
            # A repository that does not exist yet may not be read. The upload then says whether it may be written.
            return None

    def _mount(self, digest: str, source: str) -> bool:
        try:
            upload = self._registry.mount_blob(self._repository, digest, source)
        except (RegistryDenied, NotInRegistry, InvalidAnswer) as error:
            logger.info("{}: {} cannot be mounted from {}: {}", self._repository, digest, source, error)
            return False
        if upload is None:
            return True
        self._give_up(digest)
        self._begun[digest] = upload
        return False

    def _give_up(self, digest: str) -> None:
        """Tell the registry that nothing comes to an upload that began instead of a mount."""
        if (upload := self._begun.pop(digest, None)) is not None:
            self._registry.cancel_upload(upload)

    def finish(self) -> None:
        """Give up uploads that were not needed."""
        for digest in list(self._begun):
            self._give_up(digest)

    def close(self) -> None:
        """Close the connections to other registries."""
        for host in list(self._others):
            self._others.pop(host).close()

    def _open(self, host: str) -> Registry:
        """Return the client of another registry, or of this one."""
        from layerstore_core.registry import Registry

        if host == self._host:
            return self._registry
        with self._lock:
            if host not in self._others:
                self._others[host] = Registry(host, settings=self._settings, timeout=_TIMEOUT)
            return self._others[host]

    def record(self) -> None:
        """Record that the repository has these blobs. The caller has locked the records of images.

        Raises:
            BadRecord, OSError: it cannot be recorded.
        """
        for digest, layer in self.layers.items():
            if digest in self.blobs and self.blobs[digest].state != "left":
                self._sources.add(layer, [BlobSource(digest, f"{self._host}/{self._repository}")])

    # Events

    def report(self, digest: str, state: State, *, name: str = "", done: int = 0, size: int = 0) -> None:
        """Report the state of a blob.

        Args:
            digest: its digest; empty while it is not known.
            state: the state.
            name: the diff ID of a layer whose blob has no digest yet.
            done, size: see `BlobEvent`.
        """
        if self._progress is not None:
            layer = name or self.layers.get(digest)
            kind = "layer" if layer else self._kind_of(digest)
            with self._lock:
                self._progress(BlobEvent(layer or digest, kind, state, digest, done, size))

    def _settle(self, digest: str, size: int, state: BlobState) -> None:
        self.blobs[digest] = PushedBlob(digest, size, self._kind_of(digest), state)
        self.report(digest, _EVENTS[state], done=size, size=size)

    def _kind_of(self, digest: str) -> Literal["layer", "config", "blob"]:
        return "layer" if digest in self.layers else "config" if digest in self._configs else "blob"


def _content(registry: Registry, repository: str, digest: str, size: int) -> Iterator[bytes]:
    """Yield a blob of another registry, and compare its digest."""
    found = hashlib.sha256()
    try:
        with registry.blob(repository, digest, size=size) as blob:
            # A server that does not know ranges gives all of it, which is what is wanted here.
            while chunk := blob.read(_CHUNK):
                found.update(chunk)
                yield chunk
    except RegistryError as error:
        raise NotFetched(str(error)) from None
    if f"sha256:{found.hexdigest()}" != digest:
        raise NotFetched(f"{registry.host}/{repository} sends something else for {digest}")
