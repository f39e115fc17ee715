"""Images in registries, looked into where they are: without a store, and without pulling them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from layerstore_core.base.digests import DiffID
from layerstore_core.base.limits import Limit
from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidImage
from layerstore_core.images.archive import MAX_SIZE
from layerstore_core.images.formats.documents import ConfigDocument, Descriptor, parse_json
from layerstore_core.images.formats.oci_layout import CONFIG_TYPES, is_layer_type
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.remote.documents import read_blob, read_image
from layerstore_core.images.remote.lazy.layer import RemoteLayer, TablesTogether
from layerstore_core.images.remote.lazy.place import place_of
from layerstore_core.images.remote.lazy.ranges import RegistryBlob
from layerstore_core.images.remote.lazy.source import TocBudget
from layerstore_core.records.imagedb import MAX_CONFIG
from layerstore_core.records.kept import Referrer
from layerstore_core.view.limits import MAX_ENTRIES, MAX_PATH_BYTES
from layerstore_core.view.tree import TreeView

if TYPE_CHECKING:
    from layerstore_core.registry import Registry
    from layerstore_core.registry.hosts import RegistrySettings


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A manifest of an image in a registry.

    Attributes:
        digest: its digest.
        data: its bytes.
        document: the parsed JSON.
    """

    digest: str
    data: bytes
    document: Mapping[str, Any]


class RegistryImage:
    """An image in a registry, looked into without pulling it. Use it in a `with` block.

    Its manifest is read at once, its config and its layers only where they are needed, and nothing is kept. Of a layer
    with a table of contents (eStargz, zstd:chunked), the table and the wanted files are fetched. The table's digest is
    in the manifest, and the digests of files are in the table. Any other layer is read from its beginning: as far as
    the wanted file, which cannot be verified then, or whole, and compared with its digest and its diff ID.

    Args:
        reference: its name, such as `"debian:12"` or `"registry.example.com/app@sha256:…"`.
        platform: the platform to choose from a multi-platform image, such as `"linux/arm64"`; `None`: this host's, or
            the only one that the image has.
        verify: verify everything before it is used: layers are fetched whole, into temporary files without a name, and
            tables of contents are not used.
        registry: a client of the registry, which stays open; `None` for a new one.
        settings: for a new client: settings of registries, by host; `None` for those of the configuration files.
        max_size: the most bytes of one layer's uncompressed tar, and of one file.
        max_entries: the most entries of a view, with the directories that paths imply.
        max_path_bytes: the most bytes of their paths, link targets and extended attributes, as they are kept in memory.

    Attributes:
        reference: its name.
        digest: the digest of the manifest or index that the name stands for.
        data: the bytes of that.
        media_type: the media type of that.
        index: the parsed index, if the name stands for one; else `None`.
        manifest: the image's manifest.

    Raises:
        InvalidReference: `reference` is not a valid name of an image.
        RegistryError: the registry has no such image, or does not give it.
        InvalidImage: it is damaged, or has no image for the platform.
        ValueError, TypeError: `platform` is not a platform.
    """

    def __init__(
        self,
        reference: Reference | str,
        platform: Platform | str | Sequence[str] | None = None,
        *,
        verify: bool = False,
        registry: Registry | None = None,
        settings: RegistrySettings | None = None,
        max_size: int = MAX_SIZE,
        max_entries: int = MAX_ENTRIES,
        max_path_bytes: int = MAX_PATH_BYTES,
    ) -> None:
        self.reference = reference if isinstance(reference, Reference) else Reference.parse(reference)
        self._asked = None if platform is None else Platform.of(platform)
        self._verify = verify
        self._limit = Limit(max_size, "max_size", "argument")
        self._max_entries = max_entries
        self._max_path_bytes = max_path_bytes
        self._own_registry: Registry | None = None
        if registry is None:
            from layerstore_core.registry import Registry as Client

            registry = self._own_registry = Client(self.reference.domain, settings=settings)
        self._registry = registry
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        found = read_image(self._registry, self.reference, platform=self._asked, configs=False)
        self.digest = found.digest
        self.data = found.contents[found.digest]
        self.media_type = str(found.top["mediaType"])
        documents = {digest: parse_json(data, f"{self.reference}: {digest}") for digest, data in found.contents.items()}
        top = documents[found.digest]
        self.index: Mapping[str, Any] | None = top if "manifests" in top else None
        manifests = [
            RemoteManifest(digest, found.contents[digest], document)
            for digest, document in documents.items()
            if "manifests" not in document
        ]
        if not manifests:
            raise InvalidImage(f"{self.reference}: the index names no image")
        self.manifest = manifests[0] if len(manifests) == 1 else self._best(manifests)
        if self._asked is not None and len(manifests) == 1 and (self.index is None):
            self._check_platform(self._asked)

    @property
    def artifact_type(self) -> str:
        """What the manifest is, if it is no image's, such as a signature: its type; for an image, an empty string."""
        document = self.manifest.document
        kind = document.get("artifactType")
        config = document.get("config")
        media_type = config.get("mediaType") if isinstance(config, dict) else ""
        for one in (kind, media_type):
            if isinstance(one, str) and one not in CONFIG_TYPES:
                return one[:200]
        return ""

    @cached_property
    def layers(self) -> tuple[Descriptor, ...]:
        """The descriptors of its layers, the base first; of an artifact, those of its blobs.

        Raises:
            InvalidImage: the manifest is damaged.
        """
        where = f"{self.reference}: {self.manifest.digest}"
        listed = self.manifest.document.get("layers")
        if not isinstance(listed, list):
            raise InvalidImage(f"{where} has no list of layers")
        return tuple(Descriptor.of(item, where) for item in listed)

    @cached_property
    def config(self) -> ConfigDocument:
        """Its config, which is fetched now, and verified.

        Raises:
            RegistryError: the registry does not give it.
            InvalidImage: it is no image, or its config is damaged, or names more or fewer layers than the manifest.
        """
        config = self._config_of(self.manifest)
        if len(config.diff_ids) != len(self.layers):
            raise InvalidImage(
                f"{self.reference}: it has {len(self.layers)} layers, but its config names {len(config.diff_ids)}"
            )
        return config

    @property
    def platform(self) -> Platform | None:
        """Its platform; `None` if its config does not say."""
        return Platform.from_document(self.config.document)

    @property
    def diff_ids(self) -> tuple[DiffID, ...]:
        """The digests of its layers' tars, the base first."""
        return self.config.diff_ids

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations of its manifest."""
        found = self.manifest.document.get("annotations")
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def referrers(self) -> tuple[Referrer, ...]:
        """Return what the registry lists as signatures, attestations and other artifacts of the image, or of its index.

        Raises:
            RegistryError: the registry does not list it.
        """
        found: dict[tuple[str, str], Referrer] = {}
        for subject in dict.fromkeys((self.digest, self.manifest.digest)):
            for item in self._registry.referrers(self.reference.path, subject):
                found.setdefault((subject, str(item.get("digest"))), Referrer(subject, item))
        return tuple(found.values())

    def view(self, *, several: bool = False) -> TreeView:
        """Return its merged tree, which can be read as long as the image is open. Errors come when it is read.

        Looking one file up (`open`, `find_file`) reads layers from the topmost down, up to the file. Anything else
        reads the entries of all layers first. A content is fetched when it is read, and again when it is read again;
        layers without a table of contents are then fetched whole, into temporary files without a name.

        Args:
            several: whether several files will be looked up. Layers without a table of contents are then fetched whole
                and verified when they are first needed, and not a second time.

        Raises:
            InvalidImage: it is no image.
        """
        if kind := self.artifact_type:
            raise InvalidImage(f"{self.reference}: an artifact, not an image: {kind}")
        for layer in self.layers:
            if layer.media_type and not is_layer_type(layer.media_type):
                raise InvalidImage(
                    f"{self.reference}: its layer {layer.digest} is no tar, but {layer.media_type[:200]}"
                )
            if "encrypted" in layer.media_type:
                raise InvalidImage(f"{self.reference}: layer {layer.digest} is encrypted")
        budget = TocBudget()
        layers = [self._layer(number, layer, budget, several) for number, layer in enumerate(self.layers)]
        together = TablesTogether(layers)
        for one in layers:
            one.fetch_with(together)
        return TreeView(layers, max_entries=self._max_entries, max_path_bytes=self._max_path_bytes)

    def close(self) -> None:
        """Close the connections to the registry."""
        if self._own_registry is not None:
            self._own_registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RegistryImage {self.reference}>"

    def _layer(self, number: int, layer: Descriptor, budget: TocBudget, several: bool) -> RemoteLayer:
        urls = layer.document.get("urls")
        places = tuple(url for url in urls if isinstance(url, str)) if isinstance(urls, list) else ()
        blob = RegistryBlob(self._registry, self.reference.path, layer.digest, layer.size, places)
        place = place_of(layer.annotations, layer.size)
        return RemoteLayer(
            blob,
            place,
            lambda: self.diff_ids[number],
            self._limit,
            budget,
            whole=self._verify,
            several=several,
        )

    def _config_of(self, manifest: RemoteManifest) -> ConfigDocument:
        where = f"{self.reference}: {manifest.digest}"
        descriptor = Descriptor.of(manifest.document.get("config"), where)
        if descriptor.media_type not in CONFIG_TYPES:
            raise InvalidImage(f"{where} is an artifact, not an image: {descriptor.media_type[:200]}")
        data = read_blob(self._registry, self.reference, descriptor, MAX_CONFIG)
        return ConfigDocument.parse(data, f"{self.reference}: {descriptor.digest}")

    def _best(self, manifests: Sequence[RemoteManifest]) -> RemoteManifest:
        """Return the manifest that runs best on the platform: the index does not say for which one each is."""
        target = self._asked or Platform.of_this_host()
        ranked = []
        for number, manifest in enumerate(manifests):
            platform = Platform.from_document(self._config_of(manifest).document)
            if platform is not None and (rank := target.rank(platform)) is not None:
                ranked.append((rank, number))
        if not ranked:
            raise InvalidImage(f"{self.reference}: there is no image for {target}")
        return manifests[min(ranked)[1]]

    def _check_platform(self, platform: Platform) -> None:
        own = self.platform
        if own is not None and platform.rank(own) is None:
            raise InvalidImage(f"{self.reference}: the image is for {own}, not for {platform}")
