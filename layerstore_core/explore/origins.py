"""Where a path comes from: what each layer has done to it, read from trees that are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from layerstore_core.explore.image import ExploredImage, Scope
from layerstore_core.explore.lines import Line, Part, Role, shown_path
from layerstore_core.explore.marks import Mark
from layerstore_core.text import human_size, printable
from layerstore_core.view.nodes import Node


class Origin(NamedTuple):
    """What one layer has done to a path.

    Attributes:
        layer: index of the layer.
        mark: what it has done.
        node: the file with that layer; as it was, if it was deleted.
    """

    layer: int
    mark: Mark
    node: Node


def origins_of(image: ExploredImage, path: bytes) -> tuple[Origin, ...]:
    """Return what the layers have done to a path, the last one first; layers that have not touched it are left out.

    Args:
        image: the image.
        path: a path without symbolic links.
    """
    found = []
    before: Node | None = None
    for number in range(len(image.layers)):
        after = node_at(image.tree(number), path)
        marked = image.marks(number, Scope.LAYER).paths.get(path)
        if after is None and before is not None:
            found.append(Origin(number, Mark.DELETED, before))
        elif after is not None and marked is not None:
            found.append(Origin(number, marked.mark, after))
        before = after
    return tuple(reversed(found))


def node_at(root: Node, path: bytes) -> Node | None:
    """Return the file at a path of a tree, no symbolic link followed; `None` if there is none."""
    node: Node | None = root
    for name in path.split(b"/") if path else ():
        node = node.children.get(name) if node is not None else None
    return node


def origin_lines(image: ExploredImage, path: bytes) -> list[Line]:
    """Return where a path comes from as lines."""
    lines: list[Line] = [(Part(shown_path(path), Role.HEADING),), ()]
    origins: Sequence[Origin] = origins_of(image, path)
    if not origins:
        lines.append((Part("No layer has an entry for it."),))
    for layer, mark, node in origins:
        step = image.layers[layer]
        size = "" if node.is_directory else f", {human_size(node.size)}"
        lines.append((Part(f"{mark.value} by layer {layer}{size}", Role(mark.value)),))
        lines.append((Part(f"  {step.chain_id}", Role.FAINT),))
        texts = filter(None, (step.created, step.created_by, step.comment))
        lines += [(Part("  " + printable(text, backslash=False)),) for text in texts]
        lines.append(())
    return lines
