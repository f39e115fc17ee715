"""An image in a registry as a container: the files of an OCI layout, of which layers are received while they are read.

So images are loaded from a registry as from a layout. The container has an index of its own, with one image.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, cast

from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.documents import Descriptor
from layerstore_core.images.formats.oci_layout import NAME_ANNOTATION
from layerstore_core.images.remote.documents import RemoteImage
from layerstore_core.images.remote.receive.downloads import Downloads

#: The path of the container's own index.
INDEX: Final = "index.json"
_BLOBS: Final = "blobs/"
#: At most so many bytes of blobs of artifacts stay in memory once they were read; others are read again.
_MOST_READ: Final = 16 << 20


class RegistryContainer:
    """The files of an image in a registry.

    Args:
        image: what was read of it.
        read: reads a blob that is not a layer.

    Attributes:
        name: its name in messages.
        downloads: the layers that are received; a layer that is not among them cannot be opened.
        places: other places of files, by path: the size, and what opens it.
    """

    def __init__(self, image: RemoteImage, read: Callable[[Descriptor], bytes]) -> None:
        self.name = image.reference.full_name
        self.downloads: Downloads | None = None
        self.places: dict[str, tuple[int, Callable[[], BinaryIO]]] = {}
        self._image = image
        self._read = read
        entry = {**image.top, "annotations": {NAME_ANNOTATION: image.reference.full_name}}
        self._entries = [entry, *image.referrers]
        self._room = _MOST_READ

    def __contains__(self, path: str, /) -> bool:
        try:
            self.size(path)
        except InvalidImage:
            return False
        return True

    def size(self, path: str, /) -> int:
        if path == INDEX:
            return len(self._index)
        if path in self.places:
            return self.places[path][0]
        digest = self._digest(path)
        if (content := self._image.contents.get(digest)) is not None:
            return len(content)
        return self._blob(path, digest).size

    def open(self, path: str, /) -> BinaryIO:
        if path == INDEX:
            return io.BytesIO(self._index)
        if path in self.places:
            return self.places[path][1]()
        digest = self._digest(path)
        if (content := self._image.contents.get(digest)) is not None:
            return io.BytesIO(content)
        blob = self._blob(path, digest)
        if self.downloads is not None and digest in self.downloads:
            return cast("BinaryIO", self.downloads.open(digest, f"{self.name}: {path}"))
        content = self._read(blob)
        if blob.size <= self._room:  # it is verified first, and then written
            self._room -= blob.size
            self._image.contents[digest] = content
        return io.BytesIO(content)

    def can_give(self, path: str, /) -> bool:
        digest = self._digest(path)
        return self.downloads is not None and digest in self.downloads and self.downloads.can_give(digest)

    def give(self, path: str, target: Path, /) -> None:
        assert self.downloads is not None
        self.downloads.give(self._digest(path), target)

    def cancel(self) -> None:
        """End all reads that wait for the registry."""
        if self.downloads is not None:
            self.downloads.cancel()

    def close(self) -> None:
        """Do nothing: the downloads are ended by the one who began them."""

    @property
    def _index(self) -> bytes:
        return json.dumps({"schemaVersion": 2, "manifests": self._entries}).encode()

    def _digest(self, path: str) -> str:
        algorithm, _, digits = path.removeprefix(_BLOBS).partition("/")
        return f"{algorithm}:{digits}"

    def _blob(self, path: str, digest: str) -> Descriptor:
        found = self._image.blobs.get(digest)
        if found is None:
            raise InvalidImage(f"{self.name}: {path} is missing")
        return found
