"""Comparing two layers of an image, or two images, for the screen and for plain text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from layerstore_core.diff.change import ChangeKind
from layerstore_core.explore.image import ExploredImage
from layerstore_core.explore.marks import Mark, Marked, Marks, marks_of
from layerstore_core.images.compare import open_comparison
from layerstore_core.images.image import Image
from layerstore_core.store.handles import Layer
from layerstore_core.store.store import LayerStore
from layerstore_core.view.analysis.layers import changes_between
from layerstore_core.view.copy_out import Copied, copy_to_host
from layerstore_core.view.nodes import Node
from layerstore_core.view.tree import TreeView


class LayerComparison:
    """The tree up to one layer of an image, compared with the tree up to another one.

    Args:
        image: the image, which stays open.
        before: index of the first layer.
        after: index of the second one.
    """

    def __init__(self, image: ExploredImage, before: int, after: int) -> None:
        self._image = image
        self._layers = before, after
        self.title = f"{image.name}: layer {before} → layer {after}"
        self.root: Node = image.tree(after)
        self.marks: Marks = marks_of(changes_between(image.tree(before), self.root))

    @contextmanager
    def open_file(self, node: Node, path: bytes, mark: Mark) -> Iterator[BinaryIO]:
        """Open a regular file of either tree for a `with` block; errors as for `ExploredImage.open_file`."""
        with self._image.open_file(node, path) as file:
            yield file

    def export(self, path: bytes, mark: Mark, target: str) -> Copied:
        """Copy a file to the host: a deleted one from the first tree, any other from the second."""
        return self._image.export(self._layers[mark is not Mark.DELETED], path, target)

    def close(self) -> None:
        """Do nothing: the image stays open."""


class TreeComparison:
    """The trees of two images or layers, compared with each other, contents too.

    Args:
        store: an open store.
        before: the first image or layer.
        after: the second one.
        names: what to call them.

    Raises:
        LayerDoesNotExist: a layer is missing.
        IntegrityError, InvalidLayer: a layer is damaged.
    """

    def __init__(self, store: LayerStore, before: Image | Layer, after: Image | Layer, names: tuple[str, str]) -> None:
        self.title = f"{names[0]} → {names[1]}"
        self.marks = Marks()
        self._reading = threading.Lock()
        with ExitStack() as stack:
            changes, first, second = stack.enter_context(open_comparison(store, before, after))
            for change in changes:
                self.marks.add(change.path, Marked(_MARKS[change.kind], change.before, None, change.what))
            self._views: tuple[TreeView, TreeView] = first, second
            self.root: Node = second.root
            self._closing = stack.pop_all()

    @contextmanager
    def open_file(self, node: Node, path: bytes, mark: Mark) -> Iterator[BinaryIO]:
        """Open a regular file for a `with` block: a deleted one of the first tree, any other of the second."""
        with self._reading, self._views[mark is not Mark.DELETED].open_node(node, path) as file:
            yield file

    def export(self, path: bytes, mark: Mark, target: str) -> Copied:
        """Copy a file to the host: a deleted one from the first tree, any other from the second."""
        with self._reading:
            return copy_to_host(self._views[mark is not Mark.DELETED], path, target)

    def close(self) -> None:
        """Close the views, once no thread reads them any more. A second call does nothing."""
        with self._reading:
            self._closing.close()


def compare_images(store: LayerStore, image: ExploredImage, other: Image, name: str) -> TreeComparison:
    """Compare an image that is explored with another one; errors as for `TreeComparison`.

    Args:
        store: an open store.
        image: the image that is explored, or a chain of layers.
        other: the other image.
        name: what to call that.
    """
    if isinstance(image.what, Image):
        return TreeComparison(store, image.what, other, (image.name, name))
    with store.get(image.what) as layer:
        return TreeComparison(store, layer, other, (image.name, name))


_MARKS = {ChangeKind.ADD: Mark.ADDED, ChangeKind.MODIFY: Mark.CHANGED, ChangeKind.DELETE: Mark.DELETED}
