"""The results of loading and saving images: lists of images, and what else there is to say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class PushedBlob:
    """A blob of an image that was pushed.

    Attributes:
        digest: its digest.
        size: its size in bytes.
        kind: `"layer"`, `"config"`, or `"blob"` for a blob of an artifact.
        state: `"uploaded"`; `"exists"` if the repository had it; `"mounted"` if another repository of the registry had
            it; `"left"` for a foreign layer, which registries do not have.
    """

    digest: str
    size: int
    kind: Literal["layer", "config", "blob"]
    state: Literal["exists", "mounted", "uploaded", "left"]


@dataclass(frozen=True, slots=True)
class PushedImage:
    """An image that was pushed.

    Attributes:
        name: where it was pushed to: the full name with its tag, or with its digest if there is no tag.
        digest: the digest of the manifest or the index that the name has now.
        media_type: its media type.
        blobs: the layers, configs and other blobs that the repository has now, and how it got each.
        manifests: the manifests of the images.
        referrers: the digests of the referrers that were pushed with it.
    """

    name: str
    digest: str
    media_type: str
    blobs: tuple[PushedBlob, ...]
    manifests: tuple[SavedManifest, ...]
    referrers: tuple[str, ...]

    @property
    def sent(self) -> int:
        """How many bytes of blobs were sent."""
        return sum(blob.size for blob in self.blobs if blob.state == "uploaded")
