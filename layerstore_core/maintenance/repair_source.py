"""The source of a repair, which a user gives: an image in an archive or a layout, or the tar of one layer."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, Self

from layerstore_core.base.digests import DiffID, ImageID
from layerstore_core.errors import InvalidImage, InvalidLayer
from layerstore_core.images.formats.container import Container, open_container
from layerstore_core.images.formats.find import every_image
from layerstore_core.store.store import LayerStore
from layerstore_core.streams.source import LayerSource


class RepairSource:
    """Layers by their diff IDs; to be closed, or used in a `with` statement.

    Args:
        store: the store that is to be repaired.
        path: a docker-archive, an OCI layout, or a layer's tar, compressed or not.

    Raises:
        InvalidLayer: the file is none of these.
        OSError: it cannot be read.

    Attributes:
        path: the same.
        images: the images that it contains.
    """

    def __init__(self, store: LayerStore, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.images: set[ImageID] = set()
        self._layers: dict[DiffID, Callable[[], BinaryIO]] = {}
        self._container: Container | None = None
        if not self._take_images(store):
            with LayerSource(
                path, spool_dir=store.context.scratch_directory(), limits=store.context.limits, allow_empty=True
            ) as source:
                while source.read_chunk():
                    pass
                digest = DiffID.from_hex(source.hexdigest())
            self._layers[digest] = lambda: open(path, "rb")  # noqa: SIM115 - the caller closes it

    def __contains__(self, diff_id: DiffID) -> bool:
        return diff_id in self._layers

    def diff_ids(self) -> list[DiffID]:
        """Return the diff IDs of the layers in the source."""
        return list(self._layers)

    def open(self, diff_id: DiffID) -> BinaryIO:
        """Open a layer's tar, perhaps compressed; to be closed.

        Raises:
            KeyError: the source does not have it.
        """
        return self._layers[diff_id]()

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._container is not None:
            self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _take_images(self, store: LayerStore) -> bool:
        try:
            container = open_container(
                self.path, spool_dir=store.context.scratch_directory(), limits=store.context.limits
            )
        except (InvalidImage, InvalidLayer):
            return False
        try:
            found = every_image(container)
        except InvalidImage:
            claims = any(name in container for name in ("manifest.json", "index.json"))
            container.close()
            if claims:
                raise
            return False
        except BaseException:
            container.close()
            raise
        self._container = container
        for image in found.images:
            self.images.add(image.config.image_id)
            self._layers.update({layer.diff_id: partial(found.container.open, layer.path) for layer in image.layers})
        return True
