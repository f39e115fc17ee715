"""The analysis of an image: what its layers change and waste, its duplicate files and its packages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerstore_core.base.digests import ChainID, DiffID, ImageID, chain_ids
from layerstore_core.images.formats.documents import ConfigDocument
from layerstore_core.images.history import Step, steps_of
from layerstore_core.view.analysis.duplicates import Duplicates, find_duplicates
from layerstore_core.view.analysis.layers import AnalyzedLayer, TreeAnalysis, analyze_layers
from layerstore_core.view.analysis.sizes import Sum, directory_sums
from layerstore_core.view.packages import read_packages
from layerstore_core.view.packages.package import Package

if TYPE_CHECKING:
    from layerstore_core.view.tree import TreeView


@dataclass(frozen=True, slots=True)
class LayerStep:
    """A layer of an image, and the step of its history that has made it.

    Attributes:
        chain_id: its name in the store.
        diff_id: the digest of its tar.
        created: the time of the step, as in the config; may be empty.
        created_by: the command; may be empty.
        comment: the comment; may be empty.
        analysis: what it changes and wastes.
    """

    chain_id: ChainID
    diff_id: DiffID
    created: str
    created_by: str
    comment: str
    analysis: AnalyzedLayer


@dataclass(frozen=True)
class ImageAnalysis:
    """What an image consists of.

    Bytes are the sizes of regular files, as in `layerstore_core.view.analysis.layers`.

    Attributes:
        name: a name of the image, the one by which it was asked for if there was one; its ID if it has none.
        image_id: its ID.
        config: its config.
        layers: its layers, the base first.
        tree: what the layers change and waste.
        sums: the bytes and files below each directory of the merged tree, by the identities of their nodes.
        duplicates: files that have the same content, those that waste most first.
        packages: the packages that it has installed, as far as their databases can be read.
    """

    name: str
    image_id: ImageID
    config: ConfigDocument
    layers: tuple[LayerStep, ...]
    tree: TreeAnalysis
    sums: dict[int, Sum]
    duplicates: tuple[Duplicates, ...]
    packages: tuple[Package, ...]

    @property
    def files(self) -> int:
        """How many files of any type the merged tree has, without its root."""
        return self.sums[id(self.tree.root)].files

    @property
    def overwritten(self) -> int:
        """The bytes that later layers have overwritten."""
        return sum(one.size for one in self.tree.wasted if one.kind == "overwritten")

    @property
    def deleted(self) -> int:
        """The bytes that later layers have deleted."""
        return sum(one.size for one in self.tree.wasted if one.kind == "deleted")

    @property
    def duplicated(self) -> int:
        """The visible bytes of files whose content another visible file has, too."""
        return sum(one.wasted for one in self.duplicates)

    @property
    def wasted(self) -> int:
        """All wasted bytes: overwritten, deleted and duplicated ones."""
        return self.tree.hidden + self.duplicated


def analyze_view(view: TreeView, config: ConfigDocument, image_id: ImageID, *, name: str) -> ImageAnalysis:
    """Analyze an image. The result may be used after the view is closed.

    Args:
        view: the view of its tree.
        config: its config.
        image_id: its ID.
        name: the name to show.

    Raises:
        IntegrityError, InvalidLayer: a layer is damaged.
    """
    tree = analyze_layers(view)
    return ImageAnalysis(
        name,
        image_id,
        config,
        layer_steps(config, tree.layers),
        tree,
        directory_sums(tree.root),
        find_duplicates(view),
        read_packages(view),
    )


def layer_steps(config: ConfigDocument, layers: Sequence[AnalyzedLayer]) -> tuple[LayerStep, ...]:
    """Return the layers of an image with the steps of its history; steps that have made no layer are left out."""
    makers = {step.layer: step for step in steps_of(config)}
    found = []
    chains = chain_ids(config.diff_ids)
    for number, (chain_id, diff_id, analysis) in enumerate(zip(chains, config.diff_ids, layers, strict=True)):
        step = makers.get(number, Step())
        found.append(LayerStep(chain_id, diff_id, step.created, step.created_by, step.comment, analysis))
    return tuple(found)
