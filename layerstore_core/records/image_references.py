"""The references of the image records: read once, and again only when they may have changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from layerstore_core.base import inside
from layerstore_core.base.digests import ChainID, ImageID
from layerstore_core.errors import BadRecord

#: The version of an `ImageDB` whose changes are not counted.
UNKNOWN_VERSION = -1


class ImageLayer(NamedTuple):
    """A layer as an image's config describes it.

    Attributes:
        chain_id: its name.
        parent: its parent; `None` for a base layer.
    """

    chain_id: ChainID
    parent: ImageLayer | None


class ImageReferences:
    """What the image records refer to.

    Attributes:
        tops: the images by their topmost layer.
        layers: all layers of all images, each with one of the images that have it.
        children: the images that were built from an image.
        unreadable: what cannot be read, or is missing though something names it: it may refer to any layer.
    """

    def __init__(self) -> None:
        self.tops: dict[ChainID, list[ImageID]] = {}
        self.layers: dict[ChainID, ImageID] = {}
        self.children: dict[ImageID, list[ImageID]] = {}
        self.unreadable: list[BadRecord] = []


class ImageRecords(Protocol):
    """The part of `ImageDB` from which the references are read."""

    names_path: Path

    def image_ids(self) -> list[ImageID]: ...

    def config_path(self, image: ImageID) -> Path: ...

    def parent_path(self, image: ImageID) -> Path: ...

    def recorded_parent(self, image: ImageID, metadata: inside.Directory | None = None) -> ImageID | None: ...

    def names(self) -> dict[str, ImageID]: ...

    def lost(self) -> BadRecord | None: ...

    def top_of(self, image: ImageID, configs: inside.Directory | None = None) -> ImageLayer | None: ...

    def open_configs(self) -> inside.Directory: ...

    def open_metadata(self) -> inside.Directory: ...

    def forget_all_but(self, images: Collection[ImageID]) -> None: ...


class ReferenceReader:
    """Reads the references of image records, and keeps them for as long as they are certain to be right.

    Args:
        db: the image records.
        version: returns a number that differs after each change that a store makes to them; `UNKNOWN_VERSION` where
            changes are not counted, or while another store is making some.
    """

    def __init__(self, db: ImageRecords, version: Callable[[], int]) -> None:
        self._db = db
        self._version = version
        self._known: tuple[int, ImageReferences] | None = None
        self._forgotten = 0

    def forget(self) -> None:
        """Discard what was read, because this store has changed the records."""
        self._forgotten += 1
        self._known = None

    def read(self) -> ImageReferences:
        """Return what the records refer to now."""
        version = self._version()
        known, forgotten = self._known, self._forgotten
        if known is not None and known[0] == version:
            return known[1]
        found = self._look()
        # Damage may be repaired by hand, which is not counted.
        if version != UNKNOWN_VERSION and not found.unreadable and forgotten == self._forgotten:
            self._known = version, found
        return found

    def _look(self) -> ImageReferences:
        db, found = self._db, ImageReferences()
        images: set[ImageID] = set()
        try:
            images.update(db.image_ids())
        except (BadRecord, OSError) as error:
            found.unreadable.append(_bad(db.config_path(ImageID.of(b"")).parent, error))
            return found
        if lost := db.lost():
            found.unreadable.append(lost)
        db.forget_all_but(images)
        with _opened(db.open_configs) as configs:
            for image in sorted(images):
                try:
                    self._add_layers(image, found, configs)
                except FileNotFoundError as error:
                    if inside.exists(db.config_path(image)):  # a link that leads nowhere
                        found.unreadable.append(_bad(db.config_path(image), error))
                    else:
                        images.discard(image)  # removed a moment ago
                except (BadRecord, OSError) as error:
                    found.unreadable.append(_bad(db.config_path(image), error))
        self._add_parents(images, found)
        self._add_names(images, found)
        return found

    def _add_layers(self, image: ImageID, found: ImageReferences, configs: inside.Directory | None = None) -> None:
        """Add all layers of an image: the record of the topmost, which names its parent, may be lost.

        Raises:
            BadRecord, OSError: as `ImageDB.top_layer`.
        """
        layer = self._db.top_of(image, configs)
        if layer is not None:
            found.tops.setdefault(layer.chain_id, []).append(image)
        while layer is not None and layer.chain_id not in found.layers:  # otherwise its parents are there, too
            found.layers[layer.chain_id] = image
            layer = layer.parent

    def _add_parents(self, images: set[ImageID], found: ImageReferences) -> None:
        with _opened(self._db.open_metadata) as metadata:
            for image in sorted(images):
                try:
                    parent = self._db.recorded_parent(image, metadata)
                except (BadRecord, OSError) as error:
                    found.unreadable.append(_bad(self._db.parent_path(image), error))
                    continue
                if parent is not None:
                    found.children.setdefault(parent, []).append(image)
                    self._require(parent, images, f"image {image} is recorded as built from it", found)

    def _add_names(self, images: set[ImageID], found: ImageReferences) -> None:
        try:
            names = self._db.names()
        except (BadRecord, OSError) as error:
            found.unreadable.append(_bad(self._db.names_path, error))
            return
        for name, image in names.items():
            self._require(image, images, f"the name {name} refers to it", found)

    def _require(self, image: ImageID, images: set[ImageID], because: str, found: ImageReferences) -> None:
        """Add an error if the config of an image that something names is missing."""
        if image in images:
            return
        images.add(image)
        try:
            self._add_layers(image, found)  # it may have been added a moment ago
        except FileNotFoundError:
            found.unreadable.append(BadRecord(self._db.config_path(image), f"the config is missing, and {because}"))
        except (BadRecord, OSError) as error:
            found.unreadable.append(_bad(self._db.config_path(image), error))


@contextmanager
def _opened(open_directory: Callable[[], inside.Directory]) -> Iterator[inside.Directory | None]:
    """Open a directory for a block; yield `None` where that fails: then each file in it is reported by itself."""
    try:
        directory = open_directory()
    except (BadRecord, OSError):
        yield None
        return
    with directory:
        yield directory


def _bad(path: Path, error: BadRecord | OSError) -> BadRecord:
    return error if isinstance(error, BadRecord) else BadRecord(path, error.strerror or str(error))
