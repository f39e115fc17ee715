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


class PulledImages(LoadedImages):
    """The images that were pulled, each with the names that it was given.

    Attributes:
        name: the name in the registry, in full.
        digest: the digest of the manifest or index that has this name in the registry.
        fetched: how many bytes of layers were received now.
        downloaded: the digests of the layers that were received; a part may have been here since an interrupted pull.
        present: the digests of the layers that were here already.
    """

    def __init__(
        self,
        loaded: LoadedImages,
        *,
        name: str,
        digest: str,
        fetched: int,
        downloaded: Iterable[str],
        present: Iterable[str],
    ) -> None:
        super().__init__(loaded, loaded.skipped, loaded.referrers)
        self.name = name
        self.digest = digest
        self.fetched = fetched
        self.downloaded = tuple(downloaded)
        self.present = tuple(present)


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
