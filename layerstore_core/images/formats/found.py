"""What was found in a container: images, and what is left out of it and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from layerstore_core.base.digests import DiffID, ImageID
from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.container import Container
from layerstore_core.images.formats.documents import Descriptor, ImageConfig
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.reference import Reference

#: Why something was left out; the words do not change.
SkipKind = Literal["artifact", "attestation", "platform", "unknown-type", "invalid", "name", "parent"]

#: Images, names and layers that one archive may have.
MAX_IMAGES: Final = 10_000
MAX_NAMES: Final = 10_000
MAX_LAYERS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Skipped:
    """A part of an archive or a layout that was not loaded.

    Attributes:
        what: its name, its digest or its path there.
        kind: `"artifact"` or `"attestation"`: no image; `"platform"`: an image for another one; `"unknown-type"`: of a
            media type that is not known; `"invalid"`: something of it is missing, damaged or contradictory; `"name"` or
            `"parent"`: the image was loaded, without this name or the mention of this parent.
        reason: the same in words.
    """

    what: str
    kind: SkipKind
    reason: str


class NotTaken(InvalidImage):
    """Something is no image that can be loaded here.

    Args:
        kind: as `Skipped.kind`.
        message: why.
    """

    def __init__(self, kind: SkipKind, message: str) -> None:
        super().__init__(message)
        self.kind: SkipKind = kind


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A layer in a container.

    Attributes:
        path: where it is.
        diff_id: what its uncompressed tar has to be, by the config.
        descriptor: what an OCI manifest says of it; `None` in a docker-archive.
    """

    path: str
    diff_id: DiffID
    descriptor: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """An image in a container.

    Attributes:
        config: its config.
        layers: its layers, the base first.
        names: what it is called there.
        parent: the image that it was built from, where that is recorded and in the same archive.
    """

    config: ImageConfig
    layers: tuple[LayerFile, ...]
    names: tuple[Reference, ...] = ()
    parent: ImageID | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something in a container that may be an image.

    Attributes:
        what: what to call it in messages.
        group: images of one group are the same for several platforms; `None`: it is a group of its own.
        names: what it is called there.
        labels: how else it may be asked for: names that are no images' names, digests, IDs.
        group_labels: the same for the whole group.
        platform: what it is for, if that is told.
        found: the image, or why it is none.
    """

    what: str
    group: str | None
    names: tuple[Reference, ...]
    labels: frozenset[str]
    group_labels: frozenset[str]
    platform: Platform | None
    found: ImageFiles | NotTaken


@dataclass(frozen=True, slots=True)
class Found:
    """What is to be loaded of a container.

    Attributes:
        images: the images, each once.
        skipped: what is left out.
        container: where their files are: the container that was looked at, or another view of it.
    """

    container: Container
    images: list[ImageFiles]
    skipped: list[Skipped]
