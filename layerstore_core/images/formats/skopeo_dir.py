"""Reading Skopeo's `dir:` layouts as OCI layouts.

Such a layout has a manifest, and blobs that are named by the hex digits of their digests. The manifest is
`manifest.json`. If it is the index of a multi-platform image, the inner manifests are named `<hex>.manifest.json`.
Source: github.com/containers/image, `directory/directory_transport.go`.
"""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO, Final

from layerstore_core.images.formats.container import Container
from layerstore_core.images.formats.documents import MAX_MANIFEST

MANIFEST: Final = "manifest.json"
_BLOBS: Final = "blobs/"


class SkopeoDirectory:
    """A `dir:` layout, whose files have the names that they would have in an OCI layout.

    Args:
        inner: the files of the layout. The caller closes this container.

    Raises:
        InvalidImage: there is no manifest.
        OSError: the manifest cannot be read.

    Attributes:
        name: the name of the layout in messages.
        index: an OCI index with the outermost manifest.
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
        """See `Container.size`."""
        return self._inner.size(self._real(path))

    def open(self, path: str, /) -> BinaryIO:
        """See `Container.open`."""
        return self._inner.open(self._real(path))

    def close(self) -> None:
        """See `Container.close`."""
        self._inner.close()

    def _real(self, path: str) -> str:
        """Return the name in the `dir:` layout of a path in an OCI layout."""
        algorithm, slash, digits = path.removeprefix(_BLOBS).partition("/")
        if not path.startswith(_BLOBS) or not slash:
            return path
        if digits == self._digest:
            return MANIFEST
        names = (digits, f"{digits}.manifest.json", f"{algorithm}-{digits}")
        return next((name for name in names if name in self._inner), digits)
