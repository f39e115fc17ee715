"""What the parts of the class `Images` have in common: the store, and finding an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from layerstore_core.base.arguments import check_type
from layerstore_core.errors import BadRecord, LayerDoesNotExist
from layerstore_core.images.image import Image
from layerstore_core.images.results import LoadedImages
from layerstore_core.records.kept import Referrer
from layerstore_core.store.store import LayerStore

if TYPE_CHECKING:
    from layerstore_core.images.formats.found import Skipped
    from layerstore_core.images.transfer.load import Loaded


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

    def _loaded_images(self, loaded: Loaded, skipped: Sequence[Skipped]) -> LoadedImages:
        """Return the result of a load: the images with the names that they were given, and what was skipped.

        The records are not read for it: another process may have removed an image by now.
        """
        kept = {one.descriptor.digest for one in loaded.referrers}
        return LoadedImages(
            (
                self._with_size(
                    Image(
                        one.config.image_id,
                        one.config,
                        tuple(sorted(map(str, loaded.names[one.config.image_id]))),
                        0,
                    )
                )
                for one in loaded.images
            ),
            # The last reason for an item says most.
            {item.digest or number: item for number, item in enumerate(skipped) if item.digest not in kept}.values(),
            (Referrer(one.subject, one.descriptor.document) for one in loaded.referrers),
        )

    def _with_size(self, image: Image) -> Image:
        if image.chain_id is None:
            return image
        try:
            with self._store.get(image.chain_id) as layer:
                return replace(image, size=layer.size)
        except (LayerDoesNotExist, BadRecord):
            return replace(image, size=None)
