"""What each layer of a chain has done to one path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from layerstore_core.diff.change import ChangeKind
from layerstore_core.view.layers import ViewLayer
from layerstore_core.view.limits import Budget
from layerstore_core.view.merge import Merger
from layerstore_core.view.nodes import DirectoryNode, Node

_METADATA: Final = ("layer", "mode", "uid", "gid", "mtime_ns", "size", "linkname", "xattrs")


@dataclass(frozen=True, slots=True)
class LayerChange:
    """What one layer has done to a path.

    Attributes:
        layer: index of the layer, the base's being 0.
        kind: what it has done. A directory counts as changed if the layer has an entry for it, whatever is in it.
    """

    layer: int
    kind: ChangeKind


def changes_to(
    layers: Sequence[ViewLayer], path: bytes, budget: Budget | None = None
) -> tuple[list[LayerChange], DirectoryNode]:
    """Return what each layer has done to a path, the base first, and the root of the merged tree.

    Layers that have not touched the path are left out.

    Args:
        layers: the layers, the base first.
        path: a path without symbolic links.
        budget: how much work and memory merging may take.

    Raises:
        IntegrityError, InvalidLayer: a layer is damaged.
    """
    merger = Merger(budget=budget)
    names = [name for name in path.split(b"/") if name]
    changes = []
    # The node is kept, too, so that no other one can have its identity.
    before: tuple[Node | None, tuple[object, ...]] = (None, ())
    if not names:
        before = _state(merger.root, names)
    for number, layer in enumerate(layers):
        merger.add_layer(layer)
        after = _state(merger.root, names)
        if after[0] is not before[0] or after[1] != before[1]:
            was, now = before[0] is not None, after[0] is not None
            kind = ChangeKind.MODIFY if was and now else ChangeKind.ADD if now else ChangeKind.DELETE
            changes.append(LayerChange(number, kind))
        before = after
    return changes, merger.root


def _state(root: DirectoryNode, names: Sequence[bytes]) -> tuple[Node | None, tuple[object, ...]]:
    node: Node | None = root
    for name in names:
        node = node.children.get(name) if node is not None else None
    return node, () if node is None else tuple(getattr(node, name) for name in _METADATA)
