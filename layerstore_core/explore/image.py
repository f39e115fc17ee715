"""An image, or a chain of layers, that is explored: its layers, what they change, and the contents of its files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from functools import cached_property
from typing import BinaryIO

from layerstore_core.base.digests import ChainID
from layerstore_core.explore.marks import Marks, marks_of
from layerstore_core.images.analysis import LayerStep, layer_steps
from layerstore_core.images.api.images import Images
from layerstore_core.images.formats.documents import ConfigDocument
from layerstore_core.images.image import Image
from layerstore_core.store.store import LayerStore
from layerstore_core.view.analysis.duplicates import Duplicates, find_duplicates
from layerstore_core.view.analysis.layers import TreeAnalysis, analyze_layers, changes_between
from layerstore_core.view.copy_out import Copied, copy_to_host
from layerstore_core.view.nodes import DirectoryNode, Node
from layerstore_core.view.packages import read_packages
from layerstore_core.view.packages.package import Package
from layerstore_core.view.tree import TreeView


class Closed(Exception):
    """What was explored has been closed while a thread still worked on it."""


class Scope(Enum):
    """What a tree shows of a layer."""

    #: The paths that it has changed.
    LAYER = "the layer"
    #: The tree of all layers up to it, with its own changes marked.
    WHOLE = "all up to the layer"
    #: The same, with the changes of all layers but the base layer marked.
    SINCE_BASE = "all up to the layer, marked since the base"


class ExploredImage:
    """An image or a chain of layers, open for reading. Use it in a `with` block.

    Its methods may be called from several threads: those that read contents wait for each other.

    Args:
        store: an open store.
        what: the image; or the chain ID of a layer.

    Attributes:
        what: the image, or the chain ID.
        name: what to call it.
        config: the image's config; `None` for a layer.
        analysis: what its layers change and waste.
        layers: its layers, the base first.

    Raises:
        LayerDoesNotExist: a layer is missing.
        IntegrityError, InvalidLayer: a layer is damaged.
    """

    def __init__(self, store: LayerStore, what: Image | ChainID) -> None:
        self._store = store
        self.config: ConfigDocument | None = None
        if isinstance(what, Image):
            self.name = what.shown_name
            self.config = what.config
            top = what.chain_id
        else:
            self.name = str(what)
            top = what
        self.what = what
        self._closed = False
        #: One at a time reads the analyzed view, or the one that is for contents only.
        self._analyzing = threading.Lock()
        self._reading = threading.Lock()
        #: Closing waits for a copy, so that no file is left half-copied.
        self._copying = threading.Lock()
        with ExitStack() as stack:
            self._view = stack.enter_context(self._open(top))
            self._contents = stack.enter_context(self._open(top))
            self.analysis: TreeAnalysis = analyze_layers(self._view, keep_trees=True)
            self.layers = self._steps()
            self._closing = stack.pop_all()
        self._marks: dict[tuple[int, Scope], Marks] = {}

    def _open(self, chain: ChainID | None) -> TreeView:
        if chain is None:
            return TreeView(())
        return self._store.get(chain).view(close_handle=True)

    def _steps(self) -> tuple[LayerStep, ...]:
        analyzed = self.analysis.layers
        if isinstance(self.what, Image):
            return layer_steps(self.what.config, analyzed)
        with self._store.get(self.what) as layer:
            return tuple(
                LayerStep(one.chain_id, one.diff_id, "", "", "", analysis)
                for one, analysis in zip(layer.chain(), analyzed, strict=True)
            )

    @cached_property
    def digits(self) -> str:
        """The image's ID, or the layer's chain ID."""
        return str(self.what.image_id if isinstance(self.what, Image) else self.what)

    def tree(self, layer: int) -> Node:
        """Return the merged tree of all layers up to one; of an image without layers, its empty tree."""
        if not self.analysis.layers:
            return self.analysis.root
        tree = self.analysis.layers[layer].tree
        assert tree is not None
        return tree

    def tree_before(self, layer: int) -> Node:
        """Return the merged tree of all layers before one."""
        return self.tree(layer - 1) if layer > 0 else _NOTHING

    def marks(self, layer: int, scope: Scope) -> Marks:
        """Return what was done to the paths of the tree that a scope means."""
        if not self.analysis.layers:
            return Marks()
        own = scope is not Scope.SINCE_BASE
        key = (layer, Scope.LAYER if own else scope)
        found = self._marks.get(key)
        if found is None:
            changes = self.analysis.layers[layer].changes if own else changes_between(self.tree(0), self.tree(layer))
            found = self._marks[key] = marks_of(changes)
        return found

    @contextmanager
    def open_file(self, node: Node, path: bytes) -> Iterator[BinaryIO]:
        """Open a regular file of any of the trees for a `with` block, in which no other thread reads.

        Raises:
            IntegrityError: the layer is damaged (while it is read).
            OSError: it is no regular file.
        """
        with self._reading, self._contents.open_node(node, path) as file:
            yield file

    def export(self, layer: int, path: bytes, target: str) -> Copied:
        """Copy a file, or a directory with all in it, of the tree up to a layer, to the host.

        Args:
            layer: index of the layer; -1 for the empty tree before all.
            path: the path in the tree.
            target: where to copy it to, as for `copy_to_host`.

        Raises:
            OSError: it cannot be copied; nothing was copied.
            IntegrityError: the layer is damaged; nothing was copied.
        """
        with self._copying, self._open(self.layers[layer].chain_id if layer >= 0 else None) as view:
            return copy_to_host(view, path, target)

    def duplicates(self) -> tuple[Duplicates, ...]:
        """Return the files of the whole image that have the same content; this may read many files.

        Raises:
            Closed: the image was closed meanwhile.
            IntegrityError: a layer is damaged.
        """
        with self._analyzing:
            self._check_open()
            return find_duplicates(self._view, before_file=self._check_open)

    def packages(self) -> tuple[Package, ...]:
        """Return the packages that the image has installed, as far as their databases can be read.

        Raises:
            Closed: the image was closed meanwhile.
            IntegrityError: a layer is damaged.
        """
        with self._analyzing:
            self._check_open()
            return read_packages(self._view)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed

    def close(self) -> None:
        """Close the views, once no thread reads or copies any more: a search ends soon. A second call does nothing."""
        self._closed = True
        with self._analyzing, self._reading, self._copying:
            self._closing.close()

    def __enter__(self) -> ExploredImage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


_NOTHING = DirectoryNode.make_implied(-1)


def open_image(store: LayerStore, name: str) -> ExploredImage:
    """Open an image by its name or ID; errors as from `Images.get` and `ExploredImage`."""
    return ExploredImage(store, Images(store).get(name))
