"""The images of a store: what they are called, and how they come and go."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from typing import Any, BinaryIO, Final, cast

from layerstore_core.base.arguments import check_stream, check_type
from layerstore_core.base.digests import ImageID
from layerstore_core.base.replace_file import is_stream
from layerstore_core.errors import (
    BadRecord,
    ImageDoesNotExist,
    InvalidImage,
    InvalidReference,
    LayerDoesNotExist,
    LayerStoreError,
    keeping_done,
)
from layerstore_core.images import load as loading
from layerstore_core.images.arguments import ImageFormat, check_form, names_in, target_of
from layerstore_core.images.formats.container import open_container
from layerstore_core.images.formats.documents import ImageConfig
from layerstore_core.images.formats.find import find_images, nothing_left
from layerstore_core.images.formats.found import Skipped
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.image import HistoryEntry, Image, text_of
from layerstore_core.images.output import BinaryWriter, archive_at, directory_at
from layerstore_core.images.recipe import Recipes
from layerstore_core.images.reference import Reference
from layerstore_core.images.remove import Removal, RemovalPlan
from layerstore_core.images.save import Saver
from layerstore_core.store.registration import Progress
from layerstore_core.store.store import LayerStore

#: The fewest hex digits by which an image may be called.
SHORTEST_ID: Final = 4
_ID = re.compile(rf"(?:sha256:)?([0-9a-f]{{{SHORTEST_ID},64}})", re.ASCII)
_SHOWN: Final = 10


class LoadedImages(list[Image]):
    """The images that were loaded, each with the names that it was given.

    Attributes:
        skipped: what of the archive or layout was left out, and why.
    """

    def __init__(self, images: Iterable[Image], skipped: Iterable[Skipped] = ()) -> None:
        super().__init__(images)
        self.skipped = tuple(skipped)


class Images:
    """The images of an open store.

    Args:
        store: the store; it stays the caller's.
    """

    def __init__(self, store: LayerStore) -> None:
        check_type(store, LayerStore, "an open LayerStore")
        self._store = store
        self._records = store.context.image_db
        self._recipes = Recipes(store.root, store.driver_name)

    # Finding

    def all(self) -> list[Image]:
        """All images that can be read, sorted by name and then ID; those without a name come last.

        Raises:
            BadRecord: the file of names is damaged.
        """
        names = self._names_by_image()
        found = []
        for image_id in self._records.image_ids():
            try:
                found.append(self._image(image_id, names))
            except (BadRecord, FileNotFoundError):  # `check` reports the one; the other has been removed meanwhile
                continue
        return sorted(found, key=lambda image: (not image.names, image.names, image.image_id))

    def get(self, name: str) -> Image:
        """An image by its name or ID; the ID may be shortened to four digits or more.

        Raises:
            ImageDoesNotExist: there is none, or there are several whose IDs begin so.
            BadRecord: its record is damaged.
        """
        return self._image(self._find(name)[0], self._names_by_image())

    def history(self, image: Image | str) -> list[HistoryEntry]:
        """How an image came about, the last step first; by its name or ID, too.

        Raises:
            ImageDoesNotExist: there is none of this name.
            LayerDoesNotExist: a layer is missing.
        """
        image = self.get(image) if isinstance(image, str) else image
        check_type(image, Image, "an image, as get gives it, or its name")
        chain_ids = iter(image.chain_ids)
        steps = []
        recorded: Sequence[Mapping[str, Any]] = image.config.document.get("history") or ({},) * len(image.diff_ids)
        for step in recorded:
            chain_id = None if step.get("empty_layer") else next(chain_ids, None)
            size = 0
            if chain_id is not None:
                with self._store.get(chain_id) as layer:
                    size = layer.diff_size
            steps.append(
                HistoryEntry(
                    text_of(step, "created"), text_of(step, "created_by"), text_of(step, "comment"), chain_id, size
                )
            )
        return steps[::-1]

    # In and out

    def load(
        self,
        source: BinaryIO | str | os.PathLike[str],
        *,
        platform: Platform | str | Sequence[str] | None = None,
        name: str | None = None,
        wanted: Sequence[str] | str = (),
        keep_names: bool = False,
        progress: loading.LayerProgress | None = None,
    ) -> LoadedImages:
        """Take in the images of an archive or a layout.

        What is no image for this system (a signature, an attestation, an image for another platform, one with a part
        missing) is left out, and told in the answer. Where nothing is left, that is an error.

        Args:
            source: a docker-archive, an OCI layout or a `dir:` layout of Skopeo: the path of a tar or a directory, or a
                binary file object. Layers are read in place where it can seek.
            platform: which to take of an image for several, such as `"linux/arm64"`; `None`: this host's, or the only one
                there is.
            name: what to call the image, instead of its names there; there has to be exactly one image.
            wanted: the images to take, by their names there, or by digests or IDs, which may be shortened to four digits;
                none: all. What is called by a name gets this name alone. Each of them has to be there, and sound.
            keep_names: leave all names as they are; the images get none.
            progress: makes what is called with each layer's progress.

        Returns:
            The images, each with the names that it was given now, and what was left out.

        Raises:
            InvalidImage: there is no image that can be loaded, or one that is wanted is not there, or cannot be loaded;
                the store is as it was.
            InvalidReference: the name cannot be an image's.
            OSError: it cannot be read, or the system refuses; the store is as it was.
            ValueError, TypeError: the platform is none.
        """
        check_stream(source)
        reference = Reference.parse(name) if name is not None else None
        asked = None if platform is None else Platform.of(platform)
        container = open_container(
            source, spool_dir=self._store.context.scratch_directory(), limits=self._store.context.limits
        )
        try:
            found = find_images(container, asked, names_in(wanted))
            images, skipped = found.images, found.skipped
            if reference is not None:
                if len(images) > 1:
                    raise InvalidImage(
                        f"{container.name}: it holds {len(images)} images, which cannot all be called {name}"
                    )
                images = [replace(images[0], names=(reference,))]
            if keep_names:
                images = [replace(image, names=()) for image in images]
            # A single image, or one that was asked for, is all that can be loaded: what is wrong with it is the error.
            strict = bool(wanted) or len(images) == 1
            loaded = loading.load(
                self._store, found.container, images, self._recipes, progress, skipped=None if strict else skipped
            )
            if not loaded:
                raise nothing_left(container.name, skipped)
        finally:
            container.close()
        # From what was loaded, not from the records: another process may have removed an image by now.
        return LoadedImages(
            (
                self._with_size(Image(one.config.image_id, one.config, tuple(sorted(map(str, one.names))), 0))
                for one in loaded
            ),
            skipped,
        )

    def save(
        self,
        images: Sequence[str] | str,
        target: str | os.PathLike[str] | BinaryWriter,
        *,
        form: ImageFormat = "docker",
        progress: Progress | None = None,
    ) -> list[Image]:
        """Write images to an archive or a layout, the same bytes every time.

        Args:
            images: names or IDs. An image that is called by its ID goes out without a name.
            target: where; it appears whole or not at all. To a pipe, a device or a binary file object it is written when
                it is complete.
            form: `"docker"`: a tar for `docker load`; `"oci"`: an OCI layout, a tar if the target's name ends in `.tar`,
                or there is a pipe, a device or a file object, otherwise a directory.
            progress: called now and then with the bytes of layers written so far.

        Returns:
            The images, each with the names by which it went out.

        Raises:
            ImageDoesNotExist: there is no such image.
            LayerDoesNotExist, IntegrityError: a layer is missing or damaged.
            OSError: it cannot be written.
            ValueError, TypeError: the form is unknown, or the target is none.
        """
        check_form(form)
        where = target_of(target)
        wanted: dict[ImageID, dict[str, None]] = {}
        for name in names_in(images):
            image_id, reference = self._find(name)
            wanted.setdefault(image_id, {})
            if reference is not None:
                wanted[image_id][reference] = None
        in_directory = form == "oci" and isinstance(where, str) and not (where.endswith(".tar") or is_stream(where))
        with (
            directory_at(cast("str", where))
            if in_directory
            else archive_at(where, spool_dir=self._store.context.scratch_directory())
        ) as output:
            saver = Saver(self._store, output, self._recipes if form == "oci" else None, progress)
            saved = [self._image(image_id, {image_id: tuple(names)}) for image_id, names in wanted.items()]
            for image in saved:
                saver.add(image, image.names)
            saver.finish(docker=form == "docker")
        return saved

    # Names

    def tag(self, name: str, new: str) -> Reference:
        """Give an image one more name; another image that had it loses it.

        Returns:
            The new name.

        Raises:
            ImageDoesNotExist: there is no such image.
            InvalidReference: the new name cannot be an image's.
        """
        return self.tag_image(name, new)[0]

    def tag_image(self, name: str, new: str) -> tuple[Reference, ImageID]:
        """As `tag`; gives the new name and the ID of the image that got it."""
        reference = Reference.parse(new)
        if reference.digest:
            raise InvalidReference(f"{new!r} has a digest; an image is named by a tag")
        with self._store.context.changing_images() as records:
            image_id = self._find(name)[0]
            records.set_last_updated(image_id, loading.now())
            records.set_names(
                {**records.names(), str(reference): image_id}
            )  # last: an error means that nothing changed
        return reference, image_id

    def remove(self, name: Sequence[str] | str, *, force: bool = False) -> Removal:
        """Take names away; with its last name an image goes, and the layers that nothing else holds.

        Called by its ID, an image goes with its name. Images without a name that it was built from go with it.

        Args:
            name: a name or an ID, or several, which are removed in this order, up to the first that cannot be.
            force: also where an image has several names and is called by its ID, or where writable layers stand on it.

        Raises:
            ImageDoesNotExist: there is no such image.
            ImageInUse: it has several names, writable layers stand on it, or images were built from it.
            OSError: something could not be removed.

        What was removed before an error is its attribute `done`, a `Removal`.
        """
        # In the block: a load in another process keeps the recipe of a layer that was not there a moment ago.
        with self._store.context.changing_images() as records:
            plan = RemovalPlan(self._store, records, self._find_in, force=force)
            try:
                for one in names_in(name):
                    plan.add(one)
            except LayerStoreError:
                with keeping_done(plan.carry_out(self._recipes.keep_only)):
                    raise
            return plan.carry_out(self._recipes.keep_only)

    # Inside

    def _find(self, name: str) -> tuple[ImageID, str | None]:
        """An image's ID, and the name by which it was called, if it was no ID."""
        return self._find_in(name, self._records.names(), self._records.image_ids)

    def _find_in(
        self, name: str, names: Mapping[str, ImageID], image_ids: Callable[[], Sequence[ImageID]]
    ) -> tuple[ImageID, str | None]:
        """As `_find`, among some names and images, sorted."""
        try:
            reference = str(Reference.parse(name))
            if reference in names:
                return names[reference], reference
        except InvalidReference:
            reference = name
        if match := _ID.fullmatch(name):
            images, start = image_ids(), f"sha256:{match[1]}"
            found = list(
                takewhile(lambda image: image.startswith(start), islice(images, bisect_left(images, start), None))
            )
            if len(found) == 1:
                return found[0], None
            if found:
                shown = ", ".join(found[:_SHOWN]) + (" …" if len(found) > _SHOWN else "")
                raise ImageDoesNotExist(f"{name!r} may be any of these images; give more digits: {shown}")
        raise ImageDoesNotExist(
            f"there is no image {reference!r} in {self._store.root}; `layerstore images` lists those there are"
        )

    def _names_by_image(self) -> dict[ImageID, tuple[str, ...]]:
        found: dict[ImageID, tuple[str, ...]] = {}
        for name, image_id in sorted(self._records.names().items()):
            found[image_id] = (*found.get(image_id, ()), name)
        return found

    def _image(self, image_id: ImageID, names: dict[ImageID, tuple[str, ...]]) -> Image:
        data = self._records.read(image_id)
        try:
            config = ImageConfig.parse(data, str(image_id))
        except InvalidImage as error:
            raise BadRecord(self._records.path / "imagedb" / "content" / "sha256" / image_id.hex, str(error)) from None
        return self._with_size(Image(image_id, config, names.get(image_id, ()), 0))

    def _with_size(self, image: Image) -> Image:
        if image.chain_id is None:
            return image
        try:
            with self._store.get(image.chain_id) as layer:
                return replace(image, size=layer.size)
        except (LayerDoesNotExist, BadRecord):
            return replace(image, size=None)
