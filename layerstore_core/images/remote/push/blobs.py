"""A repository of a registry as the output of a save: blobs that it has, or can mount, are not read at all."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from layerstore_core.base.digests import DiffID
from layerstore_core.images.output import WrongSize
from layerstore_core.images.remote.events import BlobEvent, BlobProgress, State
from layerstore_core.images.results import PushedBlob
from layerstore_core.log import logger
from layerstore_core.records.blob_sources import BlobSource, BlobSources
from layerstore_core.registry.errors import InvalidAnswer, NotInRegistry, RegistryDenied

if TYPE_CHECKING:
    from layerstore_core.registry import Registry
    from layerstore_core.registry.results import Upload
    from layerstore_core.store.handles import Layer

#: A blob is tried to be mounted from at most so many repositories, those where it was seen last: each costs a request.
_MOUNTS: Final = 3
#: At most so many blobs that a layer has had are looked for.
_CANDIDATES: Final = 4
_MAGIC: Final = 6

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
        progress: BlobProgress | None,
    ) -> None:
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

    def start_of(self, digest: str) -> bytes:
        with self._registry.blob(self._repository, digest, end=_MAGIC) as blob:
            found = b""
            while len(found) < _MAGIC and (chunk := blob.read(_MAGIC - len(found))):
                found += chunk
            return found

    def _is_of(self, layer: Layer, digest: str) -> bool:
        """Return whether somebody has verified that a blob is of a layer."""
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
