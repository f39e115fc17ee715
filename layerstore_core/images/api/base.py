"""What the parts of the class `Images` have in common: the store, and finding an image."""

from __future__ import annotations

from abc import ABC, abstractmethod

from layerstore_core.base.arguments import check_type
from layerstore_core.images.image import Image
from layerstore_core.store.store import LayerStore


class OfStore(ABC):
    """Methods on the images of a store.

    Args:
        store: an open store. The caller closes it.
    """

    def __init__(self, store: LayerStore) -> None:
        self._store = store

    @abstractmethod
    def get(self, name: str) -> Image:
        """Return the image with a name or an ID; see `Images.get`."""

    def _image_of(self, image: Image | str) -> Image:
        """Return the given image, or the one with the given name or ID.

        Raises:
            ImageDoesNotExist: there is no image with this name.
            TypeError: the argument is neither.
        """
        found = self.get(image) if isinstance(image, str) else image
        check_type(found, Image, "an image, as get returns it, or its name")
        return found
