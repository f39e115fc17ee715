"""Skopeo's `dir:` layouts, read as if they were OCI layouts: a manifest, and blobs that are named by their hex digits.

Source: github.com/containers/image, `directory/directory_transport.go`. The inner manifests of an image for several
platforms are called `<hex>.manifest.json`, the outermost is `manifest.json`.
"""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO, Final

from layerstore_core.images.formats.container import Container
from layerstore_core.images.formats.documents import MAX_MANIFEST

MANIFEST: Final = "manifest.json"
_BLOBS: Final = "blobs/"


class SkopeoDirectory:
    """The files of such a layout, by the names that an OCI layout would have for them.

    Args:
        inner: where they are; it stays the caller's.

    Raises:
        InvalidImage: the manifest cannot be found.
        OSError: it cannot be read.

    Attributes:
        name: what to call it in messages.
        index: an index of the outermost manifest.
    """

    def __init__(self, inner: Container) -> None:
        self.name = inner.name
        self._inner = inner
        with inner.open(MANIFEST) as file:
            data = b""
            while len(data) <= MAX_MANIFEST and (chunk := file.read(MAX_MANIFEST + 1 - len(data))):
                data += chunk
        self._digest = hashlib.sha256(data).hexdigest()
        entry = {"digest": f"sha256:{self._digest}", "size": len(data)}
        self.index: dict[str, Any] = {"manifests": [entry]}

    def __contains__(self, path: str, /) -> bool:
        return self._real(path) in self._inner

    def size(self, path: str, /) -> int:
        """As `Container.size`."""
        return self._inner.size(self._real(path))

    def open(self, path: str, /) -> BinaryIO:
        """As `Container.open`."""
        return self._inner.open(self._real(path))

    def close(self) -> None:
        """As `Container.close`."""
        self._inner.close()

    def _real(self, path: str) -> str:
        algorithm, slash, digits = path.removeprefix(_BLOBS).partition("/")
        if not path.startswith(_BLOBS) or not slash:
            return path
        if digits == self._digest:
            return MANIFEST
        names = (digits, f"{digits}.manifest.json", f"{algorithm}-{digits}")
        return next((name for name in names if name in self._inner), digits)
