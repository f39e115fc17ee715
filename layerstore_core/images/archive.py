"""Images in an archive or a layout, read in place: without a store, and without unpacking anything."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self, cast

from layerstore_core.base.arguments import check_stream
from layerstore_core.base.digests import DiffID, ImageID
from layerstore_core.base.limits import Limit, Limits
from layerstore_core.errors import ImageDoesNotExist
from layerstore_core.images.arguments import names_in
from layerstore_core.images.formats.container import open_container
from layerstore_core.images.formats.documents import ConfigDocument
from layerstore_core.images.formats.find import find_images
from layerstore_core.images.formats.found import ImageFiles, Skipped
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.streams.compression import MAGIC_SIZE, detect
from layerstore_core.streams.iterstream import IterStream
from layerstore_core.view.entries import plain_chunks
from layerstore_core.view.layers import TarLayer
from layerstore_core.view.limits import MAX_ENTRIES, MAX_PATH_BYTES
from layerstore_core.view.tree import TreeView

if TYPE_CHECKING:
    from layerstore_core.images.formats.container import Container

#: The largest temporary file and the largest layer, unless the caller gives other limits.
MAX_SIZE: Final = 64 << 30


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """An image in an archive or a layout.

    Attributes:
        image_id: the digest of its config.
        config: its config.
        names: its names there, sorted; may be empty.
        diff_ids: the digests of its layers' tars, the base first.
    """

    image_id: ImageID
    config: ConfigDocument
    names: tuple[str, ...]
    diff_ids: tuple[DiffID, ...]


class ImageArchive:
    """The images of a docker-archive, an OCI layout or a `dir:` layout of Skopeo. Use it in a `with` block.

    An archive that is compressed, or that cannot seek, is written to a temporary file without a name first. Everything
    else is read in place. Each layer is compared with its digest when its entries are read; the content of a single
    file is not, if it is read later.

    Args:
        source: the path of a tar or a directory, or a binary file object with a tar, which stays open.
        platform: the platform to choose from a multi-platform image, such as `"linux/arm64"`; `None`: this host's, or
            the only one that the image has.
        wanted: the images, by names in the archive, or by digests or IDs, which may be shortened to four digits; if
            empty, all.
        max_size: the most bytes of the temporary file, and of one layer's uncompressed tar.
        max_entries: the most entries of a view, with the directories that paths imply.
        max_path_bytes: the most bytes of their paths, link targets and extended attributes, as they are kept in memory.

    Attributes:
        images: the images.
        skipped: the items of the archive that are no images for this system, and why.

    Raises:
        InvalidImage: the source has no image, or a wanted one is missing or damaged.
        OSError: the source cannot be read.
        ValueError: `platform` is not a platform.
    """

    def __init__(
        self,
        source: BinaryIO | str | os.PathLike[str],
        *,
        platform: Platform | str | None = None,
        wanted: Sequence[str] | str = (),
        max_size: int = MAX_SIZE,
        max_entries: int = MAX_ENTRIES,
        max_path_bytes: int = MAX_PATH_BYTES,
    ) -> None:
        self._max_entries = max_entries
        self._max_path_bytes = max_path_bytes
        check_stream(source)
        self._limit = Limit(max_size, "max_size", "argument")
        limits = Limits(self._limit, self._limit)
        self._container = open_container(source, spool_dir=Path(tempfile.gettempdir()), limits=limits)
        try:
            asked = None if platform is None else Platform.of(platform)
            found = find_images(self._container, asked, names_in(wanted))
        except BaseException:
            self._container.close()
            raise
        self._files = {image.config.image_id: image for image in found.images}
        self._found = found.container
        self.images: tuple[ArchivedImage, ...] = tuple(map(_archived, found.images))
        self.skipped: tuple[Skipped, ...] = tuple(found.skipped)

    def get(self, name: str) -> ArchivedImage:
        """Return the image with a name, or with an ID, which may be shortened to four digits or more.

        Raises:
            ImageDoesNotExist: there is no such image here, or there are several.
        """
        digits = name.removeprefix("sha256:")
        found = [image for image in self.images if name in image.names or f"{name}:latest" in image.names]
        if not found and len(digits) >= 4:
            found = [image for image in self.images if image.image_id.hex.startswith(digits)]
        if len(found) != 1:
            known = ", ".join(one for image in self.images for one in image.names or (str(image.image_id),))
            what = "there is no image" if not found else "there are several images"
            raise ImageDoesNotExist(f"{self._container.name}: {what} {name!r}; it has {known}")
        return found[0]

    def layers(self, image: ArchivedImage | str) -> list[Callable[[], BinaryIO]]:
        """Return a function for each layer of an image, the base first, that opens its uncompressed tar.

        Args:
            image: the image, or its name or ID.
        """
        return [
            partial(_open_layer, self._found, layer.path) for layer in self._files[self._image(image).image_id].layers
        ]

    def view(self, image: ArchivedImage | str | None = None) -> TreeView:
        """Return the merged tree of an image. It can be read as long as the archive is open.

        Args:
            image: the image, or its name or ID; `None` if the archive has only one.

        Raises:
            ImageDoesNotExist: there is no such image, or several, of which one has to be chosen.
        """
        if image is None:
            if len(self.images) > 1:
                self.get("")  # says which there are
            image = self.images[0]
        chosen = self._image(image)
        opened = zip(self.layers(chosen), chosen.diff_ids, strict=True)
        return TreeView(
            [TarLayer(open_tar, digest=diff_id.hex, limit=self._limit) for open_tar, diff_id in opened],
            max_entries=self._max_entries,
            max_path_bytes=self._max_path_bytes,
        )

    def close(self) -> None:
        """Close the archive."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _image(self, image: ArchivedImage | str) -> ArchivedImage:
        return self.get(image) if isinstance(image, str) else image


def _archived(image: ImageFiles) -> ArchivedImage:
    config = image.config
    return ArchivedImage(config.image_id, config, tuple(sorted(map(str, image.names))), config.diff_ids)


def _open_layer(container: Container, path: str) -> BinaryIO:
    """Open the uncompressed tar of a layer; a compressed one cannot seek."""
    file = container.open(path)
    try:
        start = file.read(MAGIC_SIZE)
        file.seek(0)
        if detect(start) is None:
            return file
        return cast("BinaryIO", IterStream(iter(plain_chunks(file), b""), file.close))
    except BaseException:
        file.close()
        raise
