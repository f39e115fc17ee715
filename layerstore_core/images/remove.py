"""Removing images: planned for all names that are given, then done in one go."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from layerstore_core.base.digests import ChainID, DiffID, ImageID
from layerstore_core.errors import BadRecord, ImageInUse, LayerStoreError, keeping_done
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.store.nodes import RemovedLayer
from layerstore_core.store.store import LayerStore

#: Finds an image by a name or an ID among names and images: its ID, and the name, if it was called by one.
Find = Callable[[str, Mapping[str, ImageID], Callable[[], Sequence[ImageID]]], tuple[ImageID, str | None]]


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing images has done; true where that is anything.

    Attributes:
        untagged: the names that are gone.
        deleted: the images that are gone.
        layers: the layers that are gone.
    """

    untagged: list[str]
    deleted: list[ImageID]
    layers: list[RemovedLayer]

    def __bool__(self) -> bool:
        return bool(self.untagged or self.deleted or self.layers)


class RemovalPlan:
    """What is to be removed, as if one name were removed after the other; nothing is, until `carry_out`.

    Args:
        store: an open store.
        records: its image records, which the caller may change, and nobody else.
        find: finds an image.
        force: see `Images.remove`.
    """

    def __init__(self, store: LayerStore, records: ImageDB, find: Find, *, force: bool) -> None:
        self._store = store
        self._records = records
        self._find = find
        self._force = force
        self._names: Final = records.names()
        self._images: Final = records.image_ids()
        self._owned: Final[dict[ImageID, set[str]]] = {}
        for name, owner in self._names.items():
            self._owned.setdefault(owner, set()).add(name)
        self._untagged: list[str] = []
        self._gone: dict[ImageID, None] = {}
        self._users: dict[ChainID | None, list[str]] | None = None

    def add(self, name: str) -> None:
        """Plan to remove one name; errors as `Images.remove`."""
        image, reference = self._find(name, self._names, lambda: self._images)
        own = self._owned.get(image, set())
        doomed = {reference} if reference is not None else set(own)
        goes = len(doomed) == len(own)
        if reference is None and len(own) > 1 and not self._force:
            raise ImageInUse(f"image {image} has several names: {', '.join(sorted(own))}; remove these, or force it")
        built = self._built_from(image)
        if goes and built and reference is None:
            raise ImageInUse(f"image {image} is not removed: others were built from it: {', '.join(built)}")
        if goes and not self._force and not built and (users := self._users_of(image)):
            raise ImageInUse(
                f"image {image} is not removed: writable layers stand on it: {', '.join(users)}; "
                "remove these first, or force it"
            )
        for one in sorted(doomed):
            del self._names[one]
            own.discard(one)
            self._untagged.append(one)
        if goes and not built:
            self._add_image(image)

    def carry_out(self, keep_recipes: Callable[[Iterable[DiffID]], None]) -> Removal:
        """Remove all that is planned: the names, then the images and the layers that nothing else holds.

        Args:
            keep_recipes: hears of the layers that are left.

        Raises:
            LayerStoreError, OSError: something could not be removed; `done` of the error, a `Removal`, is what was.
        """
        removal = Removal([], [], [])
        with keeping_done(removal, removal.layers.extend):
            if self._untagged:
                self._records.set_names(self._names)
                removal.untagged.extend(self._untagged)
            for image in self._gone:
                top = self._top(image)
                try:
                    held = self._store.get(top) if top is not None else None
                except LayerStoreError:  # a layer that is missing or damaged keeps no image
                    held = None
                with held or nullcontext():
                    self._records.remove(image)
                    removal.deleted.append(image)
                    if held is not None:
                        removal.layers.extend(self._store.release(held))
            keep_recipes(layer.diff_id for layer in self._store.layers().values())
        return removal

    def _add_image(self, image: ImageID) -> None:
        """Plan to delete an image, and those without a name that it was built from."""
        current: ImageID | None = image
        while current is not None:
            place = bisect_left(self._images, current)
            if self._images[place : place + 1] == [current]:  # its config may be missing
                del self._images[place]
            self._gone[current] = None
            parent = self._records.parent(current)
            current = None
            if parent is not None and parent not in self._gone and self._records.has(parent):
                spare = not self._owned.get(parent) and not self._built_from(parent)
                current = parent if spare and not self._users_of(parent) else None

    def _built_from(self, image: ImageID) -> list[ImageID]:
        return [child for child in self._records.children(image) if child not in self._gone]

    def _top(self, image: ImageID) -> ChainID | None:
        try:
            return self._records.top_layer(image)
        except (BadRecord, OSError):
            return None

    def _users_of(self, image: ImageID) -> list[str]:
        """The writable layers that stand on an image's topmost layer."""
        if self._users is None:
            # The records alone: a handle would keep a writable layer that its owner deletes at this moment.
            self._users = {}
            for name in self._store.rw_layers():
                try:
                    parent = self._store.context.db.read_mount(name).parent
                except (LayerStoreError, OSError):  # deleted meanwhile
                    continue
                self._users.setdefault(parent, []).append(name)
        top = self._top(image)
        return [] if top is None else self._users.get(top, [])
