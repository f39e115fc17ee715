"""The images that were found in a container, and the items that are skipped, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from layerstore_core.base.digests import DiffID, ImageID
from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.container import Container
from layerstore_core.images.formats.documents import ConfigDocument, Descriptor
from layerstore_core.images.formats.platforms import Platform

#: The reason why an item was skipped. Programs read these words: they do not change.
SkipKind = Literal["artifact", "attestation", "platform", "unknown-type", "invalid", "name", "parent"]

#: The most images, names and layers that one archive may have.
MAX_IMAGES: Final = 10_000
MAX_NAMES: Final = 10_000
MAX_LAYERS: Final = 200_000
_LONGEST_REASON: Final = 400


@dataclass(frozen=True, slots=True)
class Skipped:
    """An item of an archive or a layout that was not loaded.

    Attributes:
        what: the item's name, digest or path in the archive.
        kind: `"artifact"` or `"attestation"`: it is not an image; `"platform"`: it is an image for another platform;
            `"unknown-type"`: its media type is unknown; `"invalid"`: a part of it is missing, damaged or
            contradictory; `"name"` or `"parent"`: the image was loaded, but without this name or this parent.
        reason: the reason in words.
        digest: the digest of its manifest; empty where that is not known.
    """

    what: str
    kind: SkipKind
    reason: str
    digest: str = ""


class NotLoadable(InvalidImage):
    """An item is not an image that can be loaded on this system.

    Args:
        kind: as `Skipped.kind`.
        message: the reason. It may quote the item, so that a very long one is cut.
    """

    def __init__(self, kind: SkipKind, message: str) -> None:
        super().__init__(message if len(message) <= _LONGEST_REASON else f"{message[:_LONGEST_REASON]}…")
        self.kind: SkipKind = kind


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A layer in a container.

    Attributes:
        path: its path in the container.
        diff_id: the digest of its uncompressed tar, from the config.
        descriptor: its descriptor in the OCI manifest; `None` in a docker-archive.
        present: whether it is in the container. A thin layout lacks layers that the store has.
    """

    path: str
    diff_id: DiffID
    descriptor: Descriptor | None = None
    present: bool = True


@dataclass(frozen=True, slots=True)
class ManifestFiles:
    """The way from a layout's own index to an image's manifest.

    Attributes:
        manifest: the descriptor of the manifest.
        top: the descriptor in the layout's own index: of the manifest, or of an index that leads to it.
        indexes: the indexes that lead to the manifest, the outermost first; empty where `top` is the manifest.
    """

    manifest: Descriptor
    top: Descriptor
    indexes: tuple[Descriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """An image in a container.

    Attributes:
        config: its config.
        layers: its layers, the base first.
        names: its names in the container.
        parent: the image that it was built from, if that is recorded and in the same archive.
        source: where its manifest is; `None` in a docker-archive without an OCI index.
    """

    config: ConfigDocument
    layers: tuple[LayerFile, ...]
    names: tuple[Reference, ...] = ()
    parent: ImageID | None = None
    source: ManifestFiles | None = None


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """Images that are one image for several platforms and have their names in common; mostly a single image.

    Attributes:
        images: the images; the first is the one that Docker's list of names is to have.
        names: their names.
    """

    images: tuple[ImageFiles, ...]
    names: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item in a container that may be an image.

    Attributes:
        what: its name in messages.
        group: the items of one group are the same image for several platforms; `None`: the item is alone in its group.
        names: its names in the container.
        labels: other words that it may be asked for by: names that are not valid names of images, digests, IDs.
        group_labels: such words for the whole group.
        platform: its platform; `None` if that is unknown.
        found: the image, or the reason why it cannot be loaded.
    """

    what: str
    group: str | None
    names: tuple[Reference, ...]
    labels: frozenset[str]
    group_labels: frozenset[str]
    platform: Platform | None
    found: ImageFiles | NotLoadable


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images of a container that are to be loaded.

    Attributes:
        container: the container with their files: the one that was searched, or a view of it.
        images: the images, each once; a name has only the first image of its group.
        skipped: the items that are not loaded.
        groups: the images by their names; an image may be in several groups, and a group may have no names.
    """

    container: Container
    images: list[ImageFiles]
    skipped: list[Skipped]
    groups: list[ImageGroup]
