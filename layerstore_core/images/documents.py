"""The JSON documents of image archives: read with limits, and with their digests checked."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from layerstore_core.digests import DiffID, ImageID
from layerstore_core.errors import InvalidImage
from layerstore_core.images.container import Container
from layerstore_core.metadata.imagedb import MAX_CONFIG, diff_ids_of

#: Of a manifest or an index, in bytes: what registries and containerd accept is no longer.
MAX_MANIFEST: Final = 8 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "i386": "386"}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on.

    Attributes:
        os: such as `linux`.
        architecture: such as `amd64`, in Go's words.
        variant: such as `v7`; empty for any.
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `linux/arm/v7`, `linux/amd64`, or `arm64` for one of Linux.

        Raises:
            ValueError: it is no platform.
        """
        parts = text.lower().split("/")
        if len(parts) == 1:
            parts = ["linux", *parts]
        if len(parts) > 3 or not all(parts):
            raise ValueError(f"{text!r} is no platform; write it as linux/amd64 or linux/arm/v7")
        return cls(parts[0], _MACHINES.get(parts[1], parts[1]), *parts[2:])

    @classmethod
    def of_this_host(cls) -> Self:
        """The platform of this machine."""
        machine = platform.machine()
        return cls("linux", _MACHINES.get(machine, machine))

    def takes(self, found: Mapping[str, Any]) -> bool:
        """Whether a platform in a descriptor, or a config, is this one."""
        return (
            found.get("os", "linux") == self.os
            and found.get("architecture") == self.architecture
            and (not self.variant or found.get("variant") == self.variant)
        )

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


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
    def platform(self) -> Mapping[str, Any] | None:
        """The platform it is for, where that is told."""
        found = self.document.get("platform")
        return found if isinstance(found, dict) else None

    @property
    def path(self) -> str:
        """Where the blob is in a layout."""
        return f"blobs/{self.digest.replace(':', '/')}"


@dataclass(frozen=True, slots=True)
class Config:
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
            InvalidImage: it is none, or of another operating system.
        """
        document = _parsed(data, where)
        try:
            diff_ids = tuple(diff_ids_of(document))
        except ValueError as error:
            raise InvalidImage(f"{where}: {error}") from None
        assert isinstance(document, dict)
        if (system := document.get("os") or "linux") != "linux":
            raise InvalidImage(f"{where}: the image is of another operating system: {system!r}")
        history = document.get("history")
        if history is not None and not (isinstance(history, list) and all(isinstance(item, dict) for item in history)):
            raise InvalidImage(f"{where}: the config's history is no list of objects")
        return cls(data, document, diff_ids)

    @property
    def image_id(self) -> ImageID:
        """The digest of the config."""
        return ImageID.of(self.data)


def read_json(container: Container, path: str) -> Any:
    """A document that is found by its name.

    Raises:
        InvalidImage: it is missing, too long, or no JSON.
    """
    return _parsed(_read(container, path, MAX_MANIFEST), f"{container.name}: {path}")


def read_blob(container: Container, descriptor: Descriptor, limit: int = MAX_MANIFEST) -> bytes:
    """A blob of an OCI layout that is small enough to be kept in memory.

    Raises:
        InvalidImage: it is missing, too long, or not what the descriptor says.
    """
    check_size(container, descriptor)
    data = _read(container, descriptor.path, limit)
    algorithm, _, expected = descriptor.digest.partition(":")
    found = hashlib.new(algorithm, data).hexdigest()
    if found != expected:
        raise InvalidImage(f"{container.name}: {descriptor.path} is damaged: its digest is {algorithm}:{found}")
    return data


def read_json_blob(container: Container, descriptor: Descriptor) -> dict[str, Any]:
    """A manifest or an index; errors as `read_blob`."""
    document = _parsed(read_blob(container, descriptor), f"{container.name}: {descriptor.path}")
    if not isinstance(document, dict):
        raise InvalidImage(f"{container.name}: {descriptor.path} is no JSON object")
    return document


def read_config(container: Container, path: str) -> Config:
    """The config in a file that is found by its name; errors as `Config.parse`."""
    return Config.parse(_read(container, path, MAX_CONFIG), f"{container.name}: {path}")


def check_size(container: Container, descriptor: Descriptor) -> None:
    """Compare a blob's size with its descriptor.

    Raises:
        InvalidImage: it is missing, or of another size.
    """
    size = container.size(descriptor.path)
    if size != descriptor.size:
        raise InvalidImage(f"{container.name}: {descriptor.path} has {size} bytes, not {descriptor.size} as it should")


def _read(container: Container, path: str, limit: int) -> bytes:
    size = container.size(path)
    if size > limit:
        raise InvalidImage(f"{container.name}: {path} is {size} bytes long; no such document has more than {limit}")
    with container.open(path) as file:
        data = b""
        while chunk := file.read(size + 1 - len(data)):
            data += chunk
    return data


def _parsed(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidImage(f"{where} is not JSON: {str(error)[:200]}") from None
