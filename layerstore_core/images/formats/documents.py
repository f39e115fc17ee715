"""Reading the JSON documents of image archives, within limits, and verifying their digests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from layerstore_core.base.digests import ChainID, DiffID, ImageID
from layerstore_core.base.jsontext import json_problem
from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.container import Container, TooMuch
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.records.imagedb import MAX_CONFIG, diff_ids_of

#: The greatest size of a manifest or an index, in bytes: registries and containerd accept no larger ones.
MAX_MANIFEST: Final = 8 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
#: Limits on all documents of one archive together: their bytes, and their values (numbers, strings, lists and objects,
#: counted by commas and brackets).
MAX_DOCUMENTS: Final = 64 << 20
MAX_VALUES: Final = 2_000_000
_STRUCTURE: Final = b"[{,:"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to a blob of an OCI layout.

    Attributes:
        digest: the digest of the blob, `sha256:…` or `sha512:…`.
        size: the size of the blob in bytes.
        document: the whole descriptor, as parsed JSON.
    """

    digest: str
    size: int
    document: Mapping[str, Any] = field(hash=False, repr=False)

    @classmethod
    def of(cls, document: Any, where: str) -> Self:
        """Read a descriptor.

        Args:
            document: the parsed JSON.
            where: the name of the document that contains it, for messages.

        Raises:
            InvalidImage: the digest or the size is missing or invalid.
        """
        if not isinstance(document, dict):
            raise InvalidImage(f"{where}: a descriptor is not an object")
        digest, size = document.get("digest"), document.get("size")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise InvalidImage(f"{where}: a descriptor has no sha256 or sha512 digest, but {str(digest)[:80]!r}")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise InvalidImage(f"{where}: the descriptor of {digest} has no size, but {str(size)[:80]!r}")
        return cls(digest, size, document)

    @property
    def media_type(self) -> str:
        """The media type of the blob; may be empty."""
        return str(self.document.get("mediaType") or "")

    @property
    def annotations(self) -> Mapping[str, Any]:
        """The annotations; empty if there are none."""
        found = self.document.get("annotations")
        return found if isinstance(found, dict) else {}

    @property
    def platform(self) -> Platform | None:
        """The platform of the image; `None` if the descriptor has none."""
        found = self.document.get("platform")
        return Platform.from_document(found) if isinstance(found, dict) else None

    @property
    def path(self) -> str:
        """The path of the blob in a layout."""
        return f"blobs/{self.digest.replace(':', '/')}"


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """An image's config.

    Attributes:
        data: the bytes of its JSON.
        document: the parsed JSON.
        diff_ids: the diff IDs of the layers, the base first.
    """

    data: bytes = field(repr=False)
    document: Mapping[str, Any] = field(hash=False, repr=False)
    diff_ids: tuple[DiffID, ...]

    @classmethod
    def parse(cls, data: bytes, where: str) -> Self:
        """Parse a config.

        Raises:
            InvalidImage: the data is not an image's config.
        """
        return cls.of(data, parse_json(data, where), where)

    @classmethod
    def of(cls, data: bytes, document: Any, where: str) -> Self:
        """Check a config that is already parsed.

        Raises:
            InvalidImage: the document is not an image's config.
        """
        try:
            diff_ids = tuple(diff_ids_of(document))
        except ValueError as error:
            raise InvalidImage(f"{where}: {error}") from None
        assert isinstance(document, dict)
        history = document.get("history")
        if history is not None and not (isinstance(history, list) and all(isinstance(item, dict) for item in history)):
            raise InvalidImage(f"{where}: the history in the config is not a list of objects")
        return cls(data, document, diff_ids)

    @property
    def image_id(self) -> ImageID:
        """The image's ID: the digest of the config."""
        return ImageID.of(self.data)


class Documents:
    """The documents of one container, read within limits for all of them together.

    Args:
        container: the container.
        has_layer: returns whether the store has a layer, which the container may then lack.
    """

    def __init__(self, container: Container, has_layer: Callable[[ChainID], bool] = lambda _: False) -> None:
        self.container = container
        self.has_layer = has_layer
        self.name = container.name
        self._bytes = MAX_DOCUMENTS
        self._values = MAX_VALUES
        self._configs: dict[str, ConfigDocument] = {}
        self._verified: set[str] = set()

    def json(self, path: str) -> Any:
        """Read a document by its path.

        Raises:
            InvalidImage: it is missing, too long, or not JSON.
            TooMuch: the documents have too many bytes or values together.
        """
        return self._parsed(self._read(path, MAX_MANIFEST), f"{self.name}: {path}")

    def json_blob(self, descriptor: Descriptor) -> dict[str, Any]:
        """Read a manifest or an index.

        Raises:
            InvalidImage: it is missing, too long, not a JSON object, or does not match the descriptor.
            TooMuch: as for `json`.
        """
        document = self._parsed(self._blob(descriptor, MAX_MANIFEST), f"{self.name}: {descriptor.path}")
        if not isinstance(document, dict):
            raise InvalidImage(f"{self.name}: {descriptor.path} is not a JSON object")
        return document

    def config(self, path: str) -> ConfigDocument:
        """Read a config by its path; errors as for `ConfigDocument.parse` and `json`."""
        if path not in self._configs:
            self._configs[path] = self._config(self._read(path, MAX_CONFIG), path)
        return self._configs[path]

    def config_blob(self, descriptor: Descriptor) -> ConfigDocument:
        """Read the config that a manifest names; errors as for `ConfigDocument.parse` and `json_blob`."""
        if descriptor.path not in self._configs:
            self._configs[descriptor.path] = self._config(self._blob(descriptor, MAX_CONFIG), descriptor.path)
        return self._configs[descriptor.path]

    def check_size(self, descriptor: Descriptor) -> None:
        """Compare a blob's size with its descriptor.

        Raises:
            InvalidImage: the blob is missing, or has another size.
        """
        size = self.container.size(descriptor.path)
        if size != descriptor.size:
            raise InvalidImage(
                f"{self.name}: {descriptor.path} has {size} bytes, not {descriptor.size} as its descriptor says"
            )

    def verify(self, descriptor: Descriptor) -> None:
        """Compare a blob of any kind with its descriptor, reading it piece by piece. Each blob is read once.

        Raises:
            InvalidImage: it is missing, or does not match.
            OSError: it cannot be read.
        """
        self.check_size(descriptor)
        if descriptor.digest in self._verified:
            return
        algorithm, _, expected = descriptor.digest.partition(":")
        digest = hashlib.new(algorithm)
        with self.container.open(descriptor.path) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        if digest.hexdigest() != expected:
            raise InvalidImage(f"{self.name}: {descriptor.path} is damaged: its digest is not its name")
        self._verified.add(descriptor.digest)

    def _blob(self, descriptor: Descriptor, limit: int) -> bytes:
        self.check_size(descriptor)
        data = self._read(descriptor.path, limit)
        algorithm, _, expected = descriptor.digest.partition(":")
        found = hashlib.new(algorithm, data).hexdigest()
        if found != expected:
            raise InvalidImage(f"{self.name}: {descriptor.path} is damaged: its digest is {algorithm}:{found}")
        return data

    def _read(self, path: str, limit: int) -> bytes:
        size = self.container.size(path)
        if size > limit:
            raise InvalidImage(f"{self.name}: {path} is {size} bytes long; the limit for such a document is {limit}")
        if size > self._bytes:
            raise TooMuch(f"{self.name}: the manifests and configs have more than {MAX_DOCUMENTS >> 20} MiB together")
        self._bytes -= size
        with self.container.open(path) as file:
            data = b""
            while chunk := file.read(size + 1 - len(data)):
                data += chunk
        return data

    def _config(self, data: bytes, path: str) -> ConfigDocument:
        where = f"{self.name}: {path}"
        return ConfigDocument.of(data, self._parsed(data, where), where)

    def _parsed(self, data: bytes, where: str) -> Any:
        self._values -= values_in(data)
        if self._values < 0:
            raise TooMuch(f"{where}: the manifests and configs have more than {MAX_VALUES} values together")
        return parse_json(data, where)


def values_in(data: bytes) -> int:
    """Return how many values a JSON document may have, from its commas and brackets: its memory depends on them."""
    return sum(data.count(mark) for mark in _STRUCTURE)


def parse_json(data: bytes, where: str) -> Any:
    """Parse JSON.

    Raises:
        InvalidImage: the data is not JSON, or is nested too deep.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidImage(f"{where} is not JSON that can be read: {json_problem(error)}") from None
