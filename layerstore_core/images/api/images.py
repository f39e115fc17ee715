"""The images of a store: finding, loading, saving, naming and removing them."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from typing import TYPE_CHECKING, BinaryIO, Final

from layerstore_core.base.arguments import check_stream, check_type
from layerstore_core.base.digests import ImageID
from layerstore_core.base.inside import Directory
from layerstore_core.base.reference import Reference
from layerstore_core.errors import (
    BadRecord,
    ImageDoesNotExist,
    InvalidImage,
    InvalidReference,
    LayerStoreError,
    keeping_done,
)
from layerstore_core.images.api.deriving import Deriving
from layerstore_core.images.api.making import Making
from layerstore_core.images.api.remote import Remote
from layerstore_core.images.api.trees import Trees
from layerstore_core.images.arguments import ImageFormat, check_form, check_not_reserved, names_in, new_name, target_of
from layerstore_core.images.details import ImageDetails, details_of
from layerstore_core.images.filters import ImageFilter
from layerstore_core.images.formats.documents import ConfigDocument
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.history import steps_of
from layerstore_core.images.image import HistoryEntry, Image
from layerstore_core.images.keep.groups import find_by_digest, for_platform, members_of_names, names_of_images
from layerstore_core.images.keep.outgoing import annotations_of, choose, copy_origin
from layerstore_core.images.output import BinaryWriter
from layerstore_core.images.remove import Removal, RemovalPlan
from layerstore_core.images.results import LoadedImages, SavedImages
from layerstore_core.store.store import LayerStore

if TYPE_CHECKING:
    from layerstore_core.images.transfer.load import LayerProgress
    from layerstore_core.store.registration.layer import Progress
    from layerstore_core.view.tree import TreeView

#: The fewest hex digits by which an image may be given.
SHORTEST_ID: Final = 4
_ID = re.compile(rf"(?:sha256:)?([0-9a-f]{{{SHORTEST_ID},64}})", re.ASCII)
_SHOWN: Final = 10


class Images(Making, Deriving, Trees, Remote):
    """The images of an open store.

    Args:
        store: the store. The caller closes it.
    """

    def __init__(self, store: LayerStore) -> None:
        check_type(store, LayerStore, "an open LayerStore")
        super().__init__(store)
        self._records = store.context.image_db

    # Finding

    def all(
        self,
        chosen: ImageFilter | None = None,
        *,
        platform: Platform | str | Sequence[str] | None = None,
    ) -> list[Image]:
        """Return all images that can be read, sorted by name and then ID; images without a name come last.

        Images for several platforms may have a name in common.

        Args:
            chosen: return only the images that fulfil these conditions, with those of their names that do.
            platform: return only the images that run on this platform.

        Raises:
            BadRecord: the file of names is damaged.
            ImageDoesNotExist: an image that a condition names is missing.
        """
        if chosen is not None:
            check_type(chosen, ImageFilter, "an ImageFilter")
        asked = None if platform is None else Platform.of(platform)
        names = self._names_by_image()
        found = []
        with self._records.open_configs() as configs:
            for image_id in self._records.image_ids():
                try:
                    found.append(self._without_size(image_id, names, configs))
                except (BadRecord, FileNotFoundError):
                    # `check` reports a damaged image. A missing one was removed by another process meanwhile.
                    continue
        if asked is not None:
            platforms = ((image, Platform.from_document(image.config.document)) for image in found)
            found = [image for image, own in platforms if own is not None and asked.rank(own) is not None]
        if chosen is not None:
            found = chosen.select(found, self.get, lambda: self._records.references().children)
        found = self._with_sizes(found)
        return sorted(found, key=lambda image: (not image.names, image.names, image.image_id))

    def get(self, name: str, *, platform: Platform | str | Sequence[str] | None = None) -> Image:
        """Return the image with a name or an ID. The ID may be shortened to four digits or more.

        Args:
            name: the name or ID.
            platform: the platform, where a name stands for images for several. With `None` it is the platform that was
                chosen when the image was loaded: this host's, if there was such an image.

        Raises:
            ImageDoesNotExist: there is no such image, none for the platform, or there are several whose IDs begin with
                the digits.
            BadRecord: its record is damaged.
        """
        image_id, reference = self._find(name)
        members = members_of_names(self._records, self._store.context.kept, self._records.names())
        if platform is not None:
            images = members.get(reference or "", (image_id,))
            image_id = for_platform(self._records, images, Platform.of(platform), name)
        return replace(self._image(image_id, names_of_images(members)), given_name=reference)

    def annotations(self, name: str) -> dict[str, str]:
        """Return the annotations of an image: those of the manifest that came with it, or those it was made with.

        Args:
            name: its name or ID.

        Raises:
            ImageDoesNotExist: there is no such image.
            BadRecord: what is recorded of it is damaged.
        """
        image_id, reference = self._find(name)
        return annotations_of(self._store.context.kept, image_id, reference)

    def inspect(self, image: Image | str) -> ImageDetails:
        """Return what there is to say about an image: platform, layers with their sizes, the image it was built from.

        Args:
            image: the image, or its name or ID.

        Raises:
            ImageDoesNotExist: there is no image with this name.
            BadRecord: its record is damaged.
        """
        image = self._image_of(image)
        return details_of(self._store, image)

    def history(self, image: Image | str) -> list[HistoryEntry]:
        """Return the steps of an image's build, the last step first.

        Args:
            image: the image, or its name or ID.

        Raises:
            ImageDoesNotExist: there is no image with this name.
            LayerDoesNotExist: a layer is missing.
        """
        image = self._image_of(image)
        chain_ids = image.chain_ids
        steps = []
        for step in steps_of(image.config):
            chain_id = None if step.layer is None else chain_ids[step.layer]
            size = 0
            if chain_id is not None:
                with self._store.get(chain_id) as layer:
                    size = layer.diff_size
            steps.append(HistoryEntry(step.created, step.created_by, step.comment, chain_id, size))
        return steps[::-1]

    def view(self, image: Image | str) -> TreeView:
        """Return the merged tree of an image, to be read without a mount and without root's rights.

        Its layers are kept from being deleted until the view is closed.

        Args:
            image: the image, or its name or ID.

        Raises:
            ImageDoesNotExist: there is no image with this name.
            LayerDoesNotExist: a layer is missing.
        """
        from layerstore_core.view.tree import TreeView

        image = self._image_of(image)
        if image.chain_id is None:
            return TreeView(())
        return self._store.get(image.chain_id).view(close_handle=True)

    # Loading and saving

    def load(
        self,
        source: BinaryIO | str | os.PathLike[str],
        *,
        platform: Platform | str | Sequence[str] | None = None,
        all_platforms: bool = False,
        name: str | None = None,
        wanted: Sequence[str] | str = (),
        keep_names: bool = False,
        progress: LayerProgress | None = None,
    ) -> LoadedImages:
        """Load the images of an archive or a layout.

        Manifests and indexes are kept byte for byte, and so are signatures, attestations and other artifacts that
        refer to them; `save` gives them back. An item that is not an image for this system (an image for another
        platform, one with a missing part, an artifact of something else) is skipped; the result lists it. It is an
        error if no image is left to load. Layers that the store has may be missing in the source.

        Args:
            source: a docker-archive, an OCI layout or a `dir:` layout of Skopeo: the path of a tar or a directory, or a
                binary file object. If it can seek, the layers are read in place.
            platform: the platform to load from a multi-platform image, such as `"linux/arm64"`. With `None` it is
                this host's platform, or the only one that the image has.
            all_platforms: load the images for all platforms; they have their names in common. `platform` is the one
                that Docker and `get` find under such a name.
            name: the name for the image, instead of its names in the source. The source has to have exactly one image.
            wanted: the images to load, by their names in the source, or by digests or IDs, which may be shortened to
                four digits; if empty, all. An image that is given by a name gets only this name. Each of them has
                to be in the source, and undamaged.
            keep_names: do not change any names in the store; the images get none.
            progress: called with each layer's name and size in bytes; it returns the function to report that layer's
                progress to.

        Returns:
            The images, each with the names that it was given now, and the skipped items.

        Raises:
            InvalidImage: no image can be loaded, or a wanted image is missing or cannot be loaded; the store is
                unchanged.
            InvalidReference: `name` is not a valid name of an image.
            OSError: the source cannot be read, or the system refuses an operation; the store is unchanged.
            ValueError, TypeError: `platform` is not a platform.
        """
        # Lazy, as in `save`: most commands on images neither load nor save any.
        from layerstore_core.images.formats.container import open_container
        from layerstore_core.images.formats.find import find_images, named, nothing_to_load
        from layerstore_core.images.keep.compressed import CompressedLayers
        from layerstore_core.images.transfer.load import load

        check_stream(source)
        reference = Reference.parse(name) if name is not None else None
        if reference is not None:
            check_not_reserved(reference)
        asked = None if platform is None else Platform.of(platform)
        container = open_container(
            source, spool_dir=self._store.context.scratch_directory(), limits=self._store.context.limits
        )
        try:
            found = find_images(
                container,
                asked,
                names_in(wanted),
                all_platforms=all_platforms,
                has_layer=self._store.has_layer,
            )
            if reference is not None:
                found = named(found, reference)
            if keep_names:
                found = named(found, None)
            # A damaged image is an error if the caller asked for it, or if it is the only one. Otherwise it is skipped.
            strict = bool(wanted) or len(found.images) == 1
            loaded = load(self._store, found, CompressedLayers(self._store), progress, skip_invalid=not strict)
            if not loaded.images:
                raise nothing_to_load(container.name, found.skipped)
        finally:
            container.close()
        return self._loaded_images(loaded, found.skipped)

    def save(
        self,
        images: Sequence[str] | str,
        target: str | os.PathLike[str] | BinaryWriter,
        *,
        form: ImageFormat = "docker",
        compression: str | None = None,
        platform: Platform | str | Sequence[str] | None = None,
        all_platforms: bool = False,
        referrers: bool = False,
        progress: Progress | None = None,
    ) -> SavedImages:
        """Write images to an archive or a layout; the same images give the same bytes.

        Args:
            images: names or IDs. An image that is given by its ID is saved without a name.
            target: a path or a binary file object. A file or directory appears whole or not at all. A pipe, a device
                or a file object is written when the archive is complete.
            form: `"docker"`: a tar for `docker load`. `"oci"`: an OCI layout, which is a tar if the target's name
                ends in `.tar`, or if the target is a pipe, a device or a file object; otherwise it is a directory.
                `"dir"`: a directory as Skopeo writes it, with one image.
            compression: how to compress all layers: `"gzip"`, `"zstd"`, with a level as in `"zstd:19"`, or `"none"`.
                With `None` they are as they came when the image was loaded, where that can be had, and otherwise not
                compressed; in the form `"docker"` they are not.
            platform: the platform, where a name stands for images for several; see `get`.
            all_platforms: save the images for all platforms, with their index.
            referrers: save the signatures, attestations and other artifacts that were kept with the images, too.
            progress: called now and then with the bytes of layers read so far.

        Returns:
            The images, each with the names that it was saved with, and their manifests.

        Raises:
            ImageDoesNotExist: there is no such image.
            LayerDoesNotExist, IntegrityError: a layer is missing or damaged.
            LayerStoreError: referrers are wanted, but the manifest that they refer to cannot be given back.
            OSError: the target cannot be written.
            ValueError, TypeError: no image is named, the form is unknown or has no place for what is to be saved, or
                the target is neither a path nor a file object.
        """
        from layerstore_core.images.keep.compressed import CompressedLayers
        from layerstore_core.images.keep.compression import Compression
        from layerstore_core.images.transfer.save import SaveOptions, save_images

        where = target_of(target)
        encoding = None if compression is None else Compression.parse(compression)
        found = [self._find(name) for name in names_in(images)]
        if not found:
            raise ValueError("name at least one image to save")
        asked = None if platform is None else Platform.of(platform)
        kept = self._store.context.kept
        chosen = choose(self._records, kept, found, platform=asked, all_platforms=all_platforms)
        check_form(form, images=len(chosen), all_platforms=all_platforms, referrers=referrers)
        names = {image: () for out in chosen for image in out.images} | names_of_images(
            {out.name: out.images for out in chosen if out.name is not None}
        )
        saved = {image_id: self._image(image_id, names) for image_id in names}
        manifests = save_images(
            self._store,
            [(out, [saved[image_id] for image_id in out.images]) for out in chosen],
            where,
            SaveOptions(form, encoding, referrers=referrers, progress=progress),
            CompressedLayers(self._store),
        )
        self._store.context.note_use(image.chain_id for image in saved.values())
        return SavedImages(saved.values(), manifests)

    # Names

    def tag(self, name: str, new: str) -> Reference:
        """Add a name to an image. If another image has the name, the name moves to this image.

        Returns:
            The new name.

        Raises:
            ImageDoesNotExist: there is no such image.
            InvalidReference: the new name is not a valid name of an image.
        """
        return self.tag_image(name, new)[0]

    def tag_image(self, name: str, new: str) -> tuple[Reference, ImageID]:
        """Do the work of `tag`; return the new name and the image's ID."""
        reference = new_name(new)
        assert reference is not None
        with self._store.context.changing_images() as records:
            image_id, found = self._find(name)
            records.set_last_updated(image_id)
            copy_origin(self._store.context.kept, found, str(reference), image_id)
            # The names come last, so that an error means that no name changed.
            records.set_names({**records.names(), str(reference): image_id})
        return reference, image_id

    def remove(self, name: Sequence[str] | str, *, force: bool = False) -> Removal:
        """Remove names. An image is removed with its last name, with its layers that nothing else refers to.

        An image that is given by its ID is removed together with its name. Images that it was built from are removed
        too if they have no name. If an error occurs, its attribute `done`, a `Removal`, says what was removed before.

        Args:
            name: a name or an ID, or several. They are removed in this order, up to the first that cannot be removed.
            force: also remove an image that has several names and is given by its ID, or that writable layers use.

        Raises:
            ImageDoesNotExist: there is no such image.
            ImageInUse: it has several names, writable layers use it, or images were built from it.
            OSError: something could not be removed.
        """
        from layerstore_core.images.keep.recipe import Recipes

        recipes = Recipes(self._store.root, self._store.driver_name)
        # Recipes are removed under the lock on the images: otherwise a load in another process could lose the recipe
        # of a layer that it has registered just now.
        with self._store.context.changing_images() as records:
            plan = RemovalPlan(self._store, records, self._find_in, force=force)
            try:
                for one in names_in(name):
                    plan.add(one)
            except LayerStoreError:
                with keeping_done(plan.carry_out(recipes.keep_only)):
                    raise
            return plan.carry_out(recipes.keep_only)

    # Internal

    def _find(self, name: str) -> tuple[ImageID, str | None]:
        """Return an image's ID, and its full name if it was given by a name."""
        try:
            return self._find_in(name, self._records.names(), self._records.image_ids)
        except ImageDoesNotExist:
            found = find_by_digest(self._records, self._store.context.kept, name)
            if found is None:
                raise
            return found

    def _find_in(
        self, name: str, names: Mapping[str, ImageID], image_ids: Callable[[], Sequence[ImageID]]
    ) -> tuple[ImageID, str | None]:
        """Do the work of `_find` among the given names and image IDs; the IDs are sorted."""
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
                raise ImageDoesNotExist(f"{name!r} is ambiguous; give more digits. It may be image {shown}")
        raise ImageDoesNotExist(
            f"there is no image {reference!r} in {self._store.root}; `layerstore images` lists the images"
        )

    def _names_by_image(self) -> dict[ImageID, tuple[str, ...]]:
        return names_of_images(members_of_names(self._records, self._store.context.kept, self._records.names()))

    def _image(self, image_id: ImageID, names: dict[ImageID, tuple[str, ...]]) -> Image:
        return self._with_size(self._without_size(image_id, names))

    def _without_size(
        self, image_id: ImageID, names: dict[ImageID, tuple[str, ...]], configs: Directory | None = None
    ) -> Image:
        data = self._records.read(image_id, configs)
        try:
            config = ConfigDocument.parse(data, str(image_id))
        except InvalidImage as error:
            raise BadRecord(self._records.path / "imagedb" / "content" / "sha256" / image_id.hex, str(error)) from None
        return Image(image_id, config, names.get(image_id, ()), 0)

    def _with_sizes(self, images: Sequence[Image]) -> list[Image]:
        self._store.context.check_open()
        chains = {image.chain_id for image in images if image.chain_id is not None}
        sizes = {chain: node.chain_size for chain, node in self._store.context.catalog.find_layers(chains).items()}
        return [replace(image, size=sizes.get(image.chain_id)) if image.chain_id else image for image in images]
