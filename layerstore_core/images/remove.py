"""Removing images: plan the removal of all given names, then carry it out at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from layerstore_core.base.digests import ChainID, DiffID, ImageID
from layerstore_core.errors import BadRecord, ImageInUse, LayerStoreError, keeping_done
from layerstore_core.images.keep.groups import members_of_names
from layerstore_core.images.keep.tidy import forget, unused
from layerstore_core.log import logger
from layerstore_core.records.imagedb import ImageDB
from layerstore_core.store.delete import delete_unreferenced
from layerstore_core.store.nodes import LayerNode, RemovedLayer
from layerstore_core.store.store import LayerStore

#: Finds an image by its name or ID among the given names and image IDs. Returns its ID, and its name if it was given
#: by a name.
Find = Callable[[str, Mapping[str, ImageID], Callable[[], Sequence[ImageID]]], tuple[ImageID, str | None]]


@dataclass(frozen=True, slots=True)
class Removal:
    """The result of removing images; false if nothing was removed.

    Attributes:
        untagged: the removed names.
        deleted: the removed images.
        layers: the removed layers.
    """

    untagged: list[str]
    deleted: list[ImageID]
    layers: list[RemovedLayer]

    def __bool__(self) -> bool:
        return bool(self.untagged or self.deleted or self.layers)


class RemovalPlan:
    """A plan of names and images to remove, one name after the other; `carry_out` removes them.

    Args:
        store: an open store.
        records: its image records, locked by the caller against other processes.
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
        #: The images of each name: several, where it stands for several platforms.
        self._members: Final = members_of_names(records, store.context.kept, self._names)
        self._owned: Final[dict[ImageID, set[str]]] = {}
        for name, owners in self._members.items():
            for owner in owners:
                self._owned.setdefault(owner, set()).add(name)
        self._untagged: list[str] = []
        self._to_delete: dict[ImageID, None] = {}
        self._users: dict[ChainID | None, list[str]] | None = None

    def add(self, name: str) -> None:
        """Add one name to the plan; errors as for `Images.remove`."""
        image, reference = self._find(name, self._names, lambda: self._images)
        own = self._owned.get(image, set())
        to_untag = {reference} if reference is not None else set(own)
        if reference is None and len(own) > 1 and not self._force:
            raise ImageInUse(
                f"image {image} has several names: {', '.join(sorted(own))}; remove the names, or use --force"
            )
        if reference is None and not self._force:
            self._require_alone(image, own)
        affected = dict.fromkeys([image, *(other for one in sorted(to_untag) for other in self._members[one])])
        last = [other for other in affected if self._owned.get(other, set()) <= to_untag]
        for other in last:
            self._check(other, given_by_id=reference is None)
        for one in sorted(to_untag):
            del self._names[one]
            for other in self._members[one]:
                self._owned[other].discard(one)
            self._untagged.append(one)
        for other in last:
            if other not in self._to_delete and not self._built_from(other):
                self._add_image(other)

    def _require_alone(self, image: ImageID, names: Iterable[str]) -> None:
        """Refuse to remove one of several images that have a name in common: that would take the others' name."""
        for name in sorted(names):
            if len(self._members[name]) > 1:
                raise ImageInUse(
                    f"image {image} is one of {len(self._members[name])} images for several platforms of {name}; "
                    "remove the name, or use --force, which removes all of them"
                )

    def _check(self, image: ImageID, *, given_by_id: bool) -> None:
        """Refuse to remove an image that is in use."""
        built = self._built_from(image)
        if built and given_by_id:
            raise ImageInUse(
                f"image {image} is not removed: other images were built from it: {', '.join(built)}; remove those first"
            )
        if not self._force and not built and (users := self._users_of(image)):
            raise ImageInUse(
                f"image {image} is not removed: writable layers use it: {', '.join(users)}; "
                "remove those first, or use --force"
            )

    def carry_out(self, keep_recipes: Callable[[Iterable[DiffID]], None]) -> Removal:
        """Remove the planned names, then the images and their layers that nothing else refers to.

        Args:
            keep_recipes: called with the remaining layers.

        Raises:
            LayerStoreError, OSError: something could not be removed. The attribute `done` of the error, a `Removal`,
                says what was removed.
        """
        removal = Removal([], [], [])
        with keeping_done(removal, removal.layers.extend):
            children = self._records.references().children
            nodes = {image: self._top_node(image) for image in self._to_delete}
            failure: Exception | None = None
            # All images before their layers, because what images refer to is read again after each change of them.
            try:
                remove_recorded(
                    self._records, self._to_delete, self._names, self._untagged, children=children, done=removal
                )
            except (LayerStoreError, OSError) as error:
                failure = error
            for node in dict.fromkeys(nodes[image] for image in removal.deleted):
                if node is not None:
                    removal.layers.extend(delete_unreferenced(self._store.context, node))
            if failure is not None:
                raise failure
            keep_recipes(kept.diff_id for kept in self._store.layers().values())
            tidy(self._store)
        return removal

    def _add_image(self, image: ImageID) -> None:
        """Add an image to the plan, with the images without a name that it was built from."""
        current: ImageID | None = image
        while current is not None:
            place = bisect_left(self._images, current)
            if self._images[place : place + 1] == [current]:  # the config may be missing
                del self._images[place]
            self._to_delete[current] = None
            parent = self._records.parent(current)
            current = None
            if parent is not None and parent not in self._to_delete and self._records.has(parent):
                unused = not self._owned.get(parent) and not self._built_from(parent)
                current = parent if unused and not self._users_of(parent) else None

    def _built_from(self, image: ImageID) -> list[ImageID]:
        """Return the images that were built from this one and are not in the plan."""
        return [child for child in self._records.children(image) if child not in self._to_delete]

    def _top(self, image: ImageID) -> ChainID | None:
        try:
            return self._records.top_layer(image)
        except (BadRecord, OSError):
            return None

    def _top_node(self, image: ImageID) -> LayerNode | None:
        """Return an image's topmost layer; `None` where it is missing or damaged, which keeps no image."""
        top = self._top(image)
        try:
            return None if top is None else self._store.context.catalog.find_layer(top)
        except (LayerStoreError, OSError):
            return None

    def _users_of(self, image: ImageID) -> list[str]:
        """Return the names of the writable layers on the image's topmost layer."""
        if self._users is None:
            # Read only the records: a handle would keep a writable layer that another process deletes at this moment.
            self._users = {}
            for name in self._store.rw_layers():
                try:
                    parent = self._store.context.db.read_mount(name).parent
                except (LayerStoreError, OSError):  # deleted meanwhile
                    continue
                self._users.setdefault(parent, []).append(name)
        top = self._top(image)
        return [] if top is None else self._users.get(top, [])


class Done(Protocol):
    """What has been removed so far.

    Attributes:
        untagged: the names.
        deleted: the images.
    """

    @property
    def untagged(self) -> list[str]: ...

    @property
    def deleted(self) -> list[ImageID]: ...


def remove_recorded(
    records: ImageDB,
    images: Collection[ImageID],
    names: Mapping[str, ImageID],
    untagged: Collection[str],
    *,
    children: Mapping[ImageID, Collection[ImageID]],
    done: Done,
) -> None:
    """Remove names, and then images that have no name any more; of a process that is killed `gc` finishes that.

    Args:
        records: the image records, which the caller has locked.
        images: the images; those that were built from another one of them before that.
        names: the names that stay.
        untagged: the names that are removed.
        children: the images that were built from each image.
        done: gets what was removed.

    Raises:
        LayerStoreError, OSError: something could not be removed.
    """
    records.begin_removal(images)
    if untagged:
        records.set_names(names)
        done.untagged.extend(untagged)
    records.remove_all(images, done.deleted.append, children)


def tidy(store: LayerStore) -> None:
    """Remove what belonged to names, images and layers that are gone; what cannot be removed is left to gc.

    The caller has locked the image records.
    """
    try:
        survey = store.context.kept.survey()
        forget(store, survey)
        store.context.image_db.clear_all(unused(store, survey))
    except (BadRecord, OSError) as error:
        logger.warning("what belonged to the removed images is left to gc: {}", error)
