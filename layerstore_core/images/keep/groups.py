"""Names that stand for several images, one for each platform.

Docker's list of names has one image for a name. The origin of the name has the others (`records.kept`).
"""

from __future__ import annotations

from collections.abc import Mapping

from layerstore_core.base.digests import ImageID
from layerstore_core.base.reference import Reference
from layerstore_core.errors import BadRecord, ImageDoesNotExist, InvalidImage, InvalidReference
from layerstore_core.images.formats.documents import ConfigDocument
from layerstore_core.images.formats.platforms import Platform, listed
from layerstore_core.log import logger
from layerstore_core.records.imagedb import ImageDB, repository_of
from layerstore_core.records.kept import KeptDocuments


def members_of_names(
    records: ImageDB, kept: KeptDocuments, names: Mapping[str, ImageID]
) -> dict[str, tuple[ImageID, ...]]:
    """Return the images that each name stands for: first the one that Docker's list has.

    Args:
        records: the records of images.
        kept: the origins of names. Where they cannot be read, a warning says so, and each name has one image.
        names: Docker's list of names.
    """
    members: dict[str, dict[str, tuple[ImageID, ...]]] = {}
    try:
        members = kept.members()
    except (BadRecord, OSError) as error:
        logger.warning("the images of names for several platforms are not known: {}", error)
    found = {}
    for name, image in names.items():
        others = members.get(name, {}).get(image, ())
        found[name] = (image, *(other for other in others if other != image and records.has(other)))
    return found


def find_by_digest(records: ImageDB, kept: KeptDocuments, text: str) -> tuple[ImageID, str] | None:
    """Find the image that `NAME@DIGEST` means: one of this repository that came in with the manifest or index.

    Args:
        records: the records of images.
        kept: the origins of names. Where they cannot be read, nothing is found.
        text: the name with the digest.

    Returns:
        The image, and a name that it has; `None` if there is none.
    """
    try:
        wanted = Reference.parse(text)
    except InvalidReference:
        return None
    if wanted.digest is None:
        return None
    try:
        names, origins = records.names(), kept.names()
    except (BadRecord, OSError):
        return None
    for name, image in names.items():
        origin = origins.get(name, {}).get(image)
        if origin is None or repository_of(name) != wanted.repository:
            continue
        if origin.digest == wanted.digest:
            return image, name
        for member, digest in origin.images.items():
            if digest == wanted.digest and records.has(member):
                return member, name
    return None


def names_of_images(members: Mapping[str, tuple[ImageID, ...]]) -> dict[ImageID, tuple[str, ...]]:
    """Return the names of each image, sorted."""
    found: dict[ImageID, list[str]] = {}
    for name, images in sorted(members.items()):
        for image in images:
            found.setdefault(image, []).append(name)
    return {image: tuple(names) for image, names in found.items()}


def for_platform(records: ImageDB, images: tuple[ImageID, ...], platform: Platform, name: str) -> ImageID:
    """Return the image that runs best on a platform.

    Args:
        records: the records of images.
        images: the images to choose from.
        platform: the platform.
        name: their name, for messages.

    Raises:
        ImageDoesNotExist: none runs on it; the message says which platforms there are.
    """
    there: list[Platform | None] = []
    ranked: list[tuple[int, int, ImageID]] = []
    for number, image in enumerate(images):
        try:
            found = Platform.from_document(ConfigDocument.parse(records.read(image), str(image)).document)
        except (BadRecord, InvalidImage, OSError):  # `check` reports it
            continue
        there.append(found)
        if found is not None and (rank := platform.rank(found)) is not None:
            ranked.append((rank, number, image))
    if not ranked:
        raise ImageDoesNotExist(
            f"there is no image {name!r} for {platform}; there are: {listed(there)}. "
            "`layerstore load --all-platforms` loads an image for all its platforms"
        )
    return min(ranked)[2]
