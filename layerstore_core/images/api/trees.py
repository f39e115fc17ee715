"""The trees of images: the methods of `Images` that write and compare them."""

from __future__ import annotations

import errno
import os
from abc import abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from layerstore_core.base.replace_file import is_stream, replacing
from layerstore_core.images.api.base import OfStore
from layerstore_core.images.arguments import target_of
from layerstore_core.images.image import Image
from layerstore_core.log import logger
from layerstore_core.store.handles import Layer, RWLayer

if TYPE_CHECKING:
    from layerstore_core.images.analysis import ImageAnalysis
    from layerstore_core.images.compare import Tree, TreeDiff
    from layerstore_core.images.output import BinaryWriter
    from layerstore_core.images.remote.image import RegistryImage
    from layerstore_core.view.tree import TreeView


class Trees(OfStore):
    """The methods of `Images` for the trees of images."""

    @abstractmethod
    def view(self, image: Image | str) -> TreeView:
        """Return the merged tree of an image; see `Images.view`."""

    def export_root(self, image: Image | str, target: str | os.PathLike[str] | BinaryWriter) -> None:
        """Write the tree of an image, all layers merged, to a tar or a directory.

        A tar is sorted, has all metadata, and is the same bytes each time. A directory has what this process may set:
        as an ordinary user all files belong to that user, and devices are left out, with a warning.

        Args:
            image: the image, or its name or ID.
            target: a path, or a binary file object. A path is a tar if its name ends in `.tar`, or if it is a pipe or a
                device; otherwise it is a directory, which must be new or empty. It appears whole or not at all.

        Raises:
            ImageDoesNotExist, LayerDoesNotExist: there is no such image, or a layer of it is missing.
            IntegrityError: a layer is damaged.
            FileExistsError: the directory is not empty.
            OSError: the target cannot be written.
        """
        where = target_of(target)
        with self.view(image) as view:
            write_tree(view, where)

    def analyze(self, image: Image | str) -> ImageAnalysis:
        """Return what the layers of an image change and waste, its duplicate files, and its packages.

        Nothing is mounted. Read are the records of its layers, files that may be duplicates, and package databases.

        Args:
            image: the image, or its name or ID.

        Raises:
            ImageDoesNotExist, LayerDoesNotExist: there is no such image, or a layer of it is missing.
            IntegrityError: a layer is damaged.
        """
        from layerstore_core.images.analysis import analyze_view

        found = self._image_of(image)
        with self.view(found) as view:
            return analyze_view(view, found.config, found.image_id, name=found.shown_name)

    def diff(
        self,
        first: Image | Layer | RWLayer | RegistryImage | str,
        second: Image | Layer | RWLayer | RegistryImage | str,
        *,
        by: Literal["names", "metadata", "content"] = "content",
        ignore: Collection[str] = (),
    ) -> TreeDiff:
        """Compare the trees of two images, layers or writable layers, without a mount.

        Content of layers that both have is not read, nor what has another size or checksum. A writable layer is read
        as it is now, and must not be written to meanwhile.

        Args:
            first: the first tree: an image, or its name or ID; a handle to a layer or to a writable layer; an image in
                a registry, of which layers that the other tree has are not fetched.
            second: the second tree.
            by: `"names"`: which paths there are, and their types; `"metadata"`: all but contents; `"content"`: all.
            ignore: what is not compared: `mode`, `owner`, `mtime`, `target`, `device`, `xattrs`, `links`, `size`,
                `content`.

        Returns:
            The differences; it is false if there are none.

        Raises:
            ImageDoesNotExist, LayerDoesNotExist: there is no such image, or a layer of it is missing.
            IntegrityError: a layer is damaged.
            RWLayerInUse: the writable layer was changed meanwhile.
            ValueError: `by` or `ignore` is unknown.
        """
        from layerstore_core.images.compare import compare

        return compare(self._store, self._tree(first), self._tree(second), by=by, ignore=ignore)

    def write_diff(
        self,
        first: Image | Layer | RWLayer | RegistryImage | str,
        second: Image | Layer | RWLayer | RegistryImage | str,
        target: str | os.PathLike[str] | BinaryWriter,
    ) -> None:
        """Write the tar of the layer that makes the second tree of the first one; the same bytes each time.

        Args:
            first: the first tree, as for `diff`.
            second: the second tree.
            target: a path or a binary file object. A file appears whole or not at all.

        Raises:
            ImageDoesNotExist, LayerDoesNotExist, IntegrityError, RWLayerInUse: as `diff`.
            OSError: the target cannot be written.
        """
        from layerstore_core.images.compare import write_difference

        write_difference(self._store, self._tree(first), self._tree(second), target_of(target))

    def _tree(self, given: Image | Layer | RWLayer | RegistryImage | str) -> Tree:
        found = self.get(given) if isinstance(given, str) else given
        if isinstance(found, (Image, Layer, RWLayer)):
            return found
        from layerstore_core.images.remote.image import RegistryImage

        if not isinstance(found, RegistryImage):
            raise TypeError(f"a tree is that of an image, or of a handle to a layer, not of {given!r:.100}")
        return found


def write_tree(view: TreeView, target: str | BinaryWriter) -> None:
    """Write a merged tree to a tar or a directory; see `Trees.export_root`."""
    from layerstore_core.view.copy_out import copy_to_host, tar_of

    if not isinstance(target, str):
        for chunk in tar_of(view, b"/"):
            target.write(chunk)
        return
    if target.endswith(".tar") or is_stream(target):
        with replacing(target) as file:
            for chunk in tar_of(view, b"/"):
                file.write(chunk)
        return
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise FileExistsError(
            errno.EEXIST, "it exists, and is not an empty directory; give the name of a new directory", target
        )
    copy_to_host(view, b"/.", target)
    _report_owners(view, target)


def _report_owners(view: TreeView, target: str) -> None:
    """Log a warning if this process could not give the files of a copy their owners."""
    from layerstore_core.rootless.rights import acts_for_root

    if acts_for_root():
        return
    own = os.geteuid(), os.getegid()
    count = sum((node.uid, node.gid) != own for _, node in view.walk())
    if count:
        logger.warning("{}: {} files belong to this user now, and not to their owners; a tar keeps all", target, count)
