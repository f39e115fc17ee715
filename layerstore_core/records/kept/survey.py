"""All origins of a store, read once: which of them count, and which documents they need."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from layerstore_core.base.digests import ImageID
from layerstore_core.errors import BadRecord
from layerstore_core.records.kept.origin import NameOrigins, Origin


@dataclass(frozen=True, slots=True)
class Survey:
    """All origins at one moment; `KeptDocuments.survey` reads them.

    Attributes:
        images: those of images.
        names: those of names, of which some may not count any more.
        unreadable: those that cannot be read or are missing: they may list any document.
    """

    images: dict[ImageID, Origin] = field(default_factory=dict)
    names: NameOrigins = field(default_factory=dict)
    unreadable: list[BadRecord] = field(default_factory=list)

    def valid_names(self, images: Collection[ImageID], owners: Mapping[str, ImageID] | None) -> NameOrigins:
        """Return the origins of names that count: of the names' present images, and with images that exist.

        Args:
            images: the images that exist.
            owners: Docker's list of names; `None` where it is missing: then the origins of names count as long as
                their images exist.
        """
        left: NameOrigins = {}
        if owners is None:  # which image a name has is not known
            for name, origins in self.names.items():
                if there := {image: _without(origin, images) for image, origin in origins.items() if image in images}:
                    left[name] = there
            return left
        for name, origins in self.names.items():
            owner = owners.get(name)
            if owner is not None and owner in origins and owner in images:
                left[name] = {owner: _without(origins[owner], images)}
        return left

    def documents(self, images: Collection[ImageID], owners: Mapping[str, ImageID] | None) -> dict[str, set[ImageID]]:
        """Return the digests of the documents that images and their names need, each with those images.

        Args:
            images, owners: as for `valid_names`.
        """
        found: dict[str, set[ImageID]] = {}
        for image, origin in self.images.items():
            if image in images:
                for digest in origin.documents:
                    found.setdefault(digest, set()).add(image)
        for origins in self.valid_names(images, owners).values():
            for image, origin in origins.items():
                for digest in origin.documents:
                    # A name for several platforms needs them for each of its images.
                    found.setdefault(digest, set()).update((image, *origin.images))
        return found


def _without(origin: Origin, images: Collection[ImageID]) -> Origin:
    left = {image: digest for image, digest in origin.images.items() if image in images}
    return origin if left == origin.images else replace(origin, images=left)
