"""The JSON documents of image archives: read within limits, and with their digests checked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from layerstore_core.base.digests import DiffID, ImageID
from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.container import Container, TooMuch
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.records.imagedb import MAX_CONFIG, diff_ids_of

#: Of a manifest or an index, in bytes: what registries and containerd accept is no longer.
MAX_MANIFEST: Final = 8 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
#: Of all documents of one archive together: bytes, and values (numbers, strings, lists and objects, by their commas and brackets).
MAX_DOCUMENTS: Final = 64 << 20
MAX_VALUES: Final = 2_000_000
_STRUCTURE: Final = b"[{,:"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to a blob of an OCI layout.

    Attributes:
        digest: of the blob, `sha256:…` or `sha512:…`.
        size: in bytes.
        document: the descriptor itself, as its JSON says.
    """

    digest: str
    size: int
    document: Mapping[str, Any] = field(hash=False, repr=False)

    @classmethod
    def of(cls, document: Any, where: str) -> Self:
        """Read one.

        Args:
            document: parsed JSON.
            where: what holds it, for messages.

        Raises:
            InvalidImage: it has no sound digest or size.
        """
        if not isinstance(document, dict):
            raise InvalidImage(f"{where}: a descriptor is no object")
        digest, size = document.get("digest"), document.get("size")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise InvalidImage(f"{where}: a descriptor has no sha256 or sha512 digest, but {str(digest)[:80]!r}")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
            raise InvalidImage(f"{where}: the descriptor of {digest} has no size, but {str(size)[:80]!r}")
        return cls(digest, size, document)

    @property
    def media_type(self) -> str:
        """What the blob is said to be; may be empty."""
        return str(self.document.get("mediaType") or "")

    @property
    def annotations(self) -> Mapping[str, Any]:
        """The annotations; those of a descriptor that has none are empty."""
        found = self.document.get("annotations")
        return found if isinstance(found, dict) else {}

    @property
    def platform(self) -> Platform | None:
        """The platform it is for, where that is told."""
        found = self.document.get("platform")
        return Platform.told_by(found) if isinstance(found, dict) else None

    @property
    def path(self) -> str:
        """Where the blob is in a layout."""
        return f"blobs/{self.digest.replace(':', '/')}"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image's config.

    Attributes:
        data: its JSON, byte for byte.
        document: what that says.
        diff_ids: the layers, the base first.
    """

    data: bytes = field(repr=False)
    document: Mapping[str, Any] = field(hash=False, repr=False)
    diff_ids: tuple[DiffID, ...]

    @classmethod
    def parse(cls, data: bytes, where: str) -> Self:
        """Read a config.

        Raises:
            InvalidImage: it is none.
        """
        return cls.of(data, parse_json(data, where), where)

    @classmethod
    def of(cls, data: bytes, document: Any, where: str) -> Self:
        """Look at a config that has been parsed.

        Raises:
            InvalidImage: it is none.
        """
        try:
            diff_ids = tuple(diff_ids_of(document))
        except ValueError as error:
            raise InvalidImage(f"{where}: {error}") from None
        assert isinstance(document, dict)
        history = document.get("history")
        if history is not None and not (isinstance(history, list) and all(isinstance(item, dict) for item in history)):
            raise InvalidImage(f"{where}: the config's history is no list of objects")
        return cls(data, document, diff_ids)

    @property
    def image_id(self) -> ImageID:
        """The digest of the config."""
        return ImageID.of(self.data)


class Documents:
    """The documents of one container, read within limits for all of them together.

    Args:
        container: where they are.
    """

    def __init__(self, container: Container) -> None:
        self.container = container
        self.name = container.name
        self._bytes = MAX_DOCUMENTS
        self._values = MAX_VALUES
        self._configs: dict[str, ImageConfig] = {}

    def json(self, path: str) -> Any:
        """Read a document that is found by its name.

        Raises:
            InvalidImage: it is missing, too long, or no JSON.
            TooMuch: the documents are too many or too long, all together.
        """
        return self._parsed(self._read(path, MAX_MANIFEST), f"{self.name}: {path}")

    def json_blob(self, descriptor: Descriptor) -> dict[str, Any]:
        """Read a manifest or an index.

        Raises:
            InvalidImage: it is missing, too long, no JSON object, or not what the descriptor says.
            TooMuch: as `json`.
        """
        document = self._parsed(self._blob(descriptor, MAX_MANIFEST), f"{self.name}: {descriptor.path}")
        if not isinstance(document, dict):
            raise InvalidImage(f"{self.name}: {descriptor.path} is no JSON object")
        return document

    def config(self, path: str) -> ImageConfig:
        """Read the config in a file that is found by its name; errors as `ImageConfig.parse`, and as `json`."""
        if path not in self._configs:
            self._configs[path] = self._config(self._read(path, MAX_CONFIG), path)
        return self._configs[path]

    def config_blob(self, descriptor: Descriptor) -> ImageConfig:
        """Read the config that a manifest names; errors as `ImageConfig.parse`, and as `json_blob`."""
        if descriptor.path not in self._configs:
            self._configs[descriptor.path] = self._config(self._blob(descriptor, MAX_CONFIG), descriptor.path)
        return self._configs[descriptor.path]

    def check_size(self, descriptor: Descriptor) -> None:
        """Compare a blob's size with its descriptor.

        Raises:
            InvalidImage: it is missing, or of another size.
        """
        size = self.container.size(descriptor.path)
        if size != descriptor.size:
            raise InvalidImage(f"{self.name}: {descriptor.path} has {size} bytes, not {descriptor.size} as it should")

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
            raise InvalidImage(f"{self.name}: {path} is {size} bytes long; no such document has more than {limit}")
        if size > self._bytes:
            raise TooMuch(f"{self.name}: its manifests and configs have more than {MAX_DOCUMENTS >> 20} MiB together")
        self._bytes -= size
        with self.container.open(path) as file:
            data = b""
            while chunk := file.read(size + 1 - len(data)):
                data += chunk
        return data

    def _config(self, data: bytes, path: str) -> ImageConfig:
        where = f"{self.name}: {path}"
        return ImageConfig.of(data, self._parsed(data, where), where)

    def _parsed(self, data: bytes, where: str) -> Any:
        self._values -= values_in(data)
        if self._values < 0:
            raise TooMuch(f"{where}: its manifests and configs have more than {MAX_VALUES} values together")
        return parse_json(data, where)


def values_in(data: bytes) -> int:
    """Say how many values a JSON document may have, from its commas and brackets: what it takes in memory depends on these."""
    return sum(data.count(mark) for mark in _STRUCTURE)


def parse_json(data: bytes, where: str) -> Any:
    """Parse JSON.

    Raises:
        InvalidImage: it is none, or is nested too deep.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise InvalidImage(f"{where} is not JSON that is read here: it is nested too deep") from None
    except ValueError as error:
        raise InvalidImage(f"{where} is not JSON: {str(error)[:200]}") from None
