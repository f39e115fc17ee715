"""How much is kept besides images and layers: manifests and other documents, and layers as they came compressed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from layerstore_core.base.digests import DiffID, ImageID
from layerstore_core.errors import BadRecord
from layerstore_core.images.keep.blobs import KeptBlobs
from layerstore_core.images.keep.tidy import names_on_disk
from layerstore_core.store.context import StoreContext
from layerstore_core.store.nodes import LayerNode


class KeptFiles:
    """The documents and compressed layers of a store at one moment, and which would be free without images and layers.

    Args:
        context: an open store.
        layers: its layers.
        certain: whether all images and layers can be read. If not, nothing is free.

    Attributes:
        documents: the size of each document in bytes, by digest.
        blobs: the sizes of the compressed layers of each layer, by diff ID.
    """

    def __init__(self, context: StoreContext, layers: Iterable[LayerNode], *, certain: bool) -> None:
        self.documents: Final = context.kept.sizes()
        self.blobs: Final = KeptBlobs(context.root, context.driver.name).sizes()
        self._layers = Counter(node.record.diff_id for node in layers)
        self._owners: dict[str, set[ImageID]] = {}
        self._certain = certain
        self._of_image: dict[ImageID, list[str]] = {}
        if not self.documents:
            return
        survey = context.kept.survey()
        try:
            owners = survey.documents(set(context.image_db.image_ids()), names_on_disk(context.image_db))
        except (BadRecord, OSError):
            owners = {}
            self._certain = False
        self._certain = self._certain and not survey.unreadable
        self._owners = {digest: images for digest, images in owners.items() if digest in self.documents}
        for digest, images in self._owners.items():
            for image in images:
                self._of_image.setdefault(image, []).append(digest)

    @property
    def needed_documents(self) -> list[int]:
        """The sizes of the documents that are not free."""
        return [size for digest, size in self.documents.items() if not self._certain or self._owners.get(digest)]

    @property
    def needed_blobs(self) -> list[int]:
        """The sizes of the compressed layers that are not free."""
        return [
            size
            for diff_id, sizes in self.blobs.items()
            if not self._certain or self._layers[diff_id]
            for size in sizes
        ]

    @property
    def all_bytes(self) -> int:
        """The bytes of all of them."""
        return sum(self.documents.values()) + sum(map(sum, self.blobs.values()))

    @property
    def needed_bytes(self) -> int:
        """The bytes of those that are not free."""
        return sum(self.needed_documents) + sum(self.needed_blobs)

    def size_of(self, image: ImageID, diff_ids: Iterable[DiffID]) -> int:
        """Return the bytes of the documents that an image needs, and of the compressed layers of its layers."""
        return sum(self.documents[digest] for digest in self._of_image.get(image, ())) + sum(
            sum(self.blobs.get(diff_id, ())) for diff_id in set(diff_ids)
        )

    def remove_image(self, image: ImageID) -> int:
        """Note that an image is removed; return the bytes of the documents that are free without it."""
        freed = 0
        for digest in self._of_image.pop(image, ()):
            self._owners[digest].discard(image)
            if self._certain and not self._owners[digest]:
                freed += self.documents[digest]
        return freed

    def remove_layer(self, diff_id: DiffID) -> int:
        """Note that a layer is removed; return the bytes of the compressed layers that are free without it."""
        self._layers[diff_id] -= 1
        return 0 if self._layers[diff_id] or not self._certain else sum(self.blobs.get(diff_id, ()))


def kept_bytes(context: StoreContext) -> int:
    """Return the bytes of all documents and compressed layers."""
    return sum(context.kept.sizes().values()) + sum(
        map(sum, KeptBlobs(context.root, context.driver.name).sizes().values())
    )
