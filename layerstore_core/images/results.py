"""The results of loading and saving images: lists of images, and what else there is to say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from layerstore_core.base.digests import ImageID
from layerstore_core.images.formats.found import Skipped
from layerstore_core.images.image import Image
from layerstore_core.records.kept import Referrer


class LoadedImages(list[Image]):
    """The images that were loaded, each with the names that it was given.

    Attributes:
        skipped: the parts of the archive or layout that were not loaded, and why.
        referrers: the signatures, attestations and other artifacts that were kept with the images.
    """

    def __init__(
        self, images: Iterable[Image], skipped: Iterable[Skipped] = (), referrers: Iterable[Referrer] = ()
    ) -> None:
        super().__init__(images)
        self.skipped = tuple(skipped)
        self.referrers = tuple(referrers)


@dataclass(frozen=True, slots=True)
class SavedManifest:
    """A manifest in an archive or a layout that was saved.

    Attributes:
        image_id: its image.
        digest: its digest.
        as_loaded: whether it is the manifest that came in with the image, byte for byte.
    """

    image_id: ImageID
    digest: str
    as_loaded: bool


class SavedImages(list[Image]):
    """The images that were saved, each with the names that it was saved with.

    Attributes:
        manifests: their manifests.
    """

    def __init__(self, images: Iterable[Image], manifests: Iterable[SavedManifest]) -> None:
        super().__init__(images)
        self.manifests = tuple(manifests)
