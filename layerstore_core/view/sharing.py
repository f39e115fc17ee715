"""Files that are part of two merged trees at once: what one of them changes is copied first."""

from __future__ import annotations

from copy import copy
from typing import Final

from layerstore_core.view.nodes import NO_LAYER, DirectoryNode, Node

_NONE: Final = NO_LAYER - 1


class SharedFiles:
    """What a tree has in common with another one: the files of the lower layers, as long as they are not copied.

    Args:
        top: index of the topmost of these layers; `None` if the tree has nothing in common with another one.

    Attributes:
        top: that index, which is smaller than that of any layer if nothing is shared.
    """

    def __init__(self, top: int | None = None) -> None:
        self.top = _NONE if top is None else top
        #: The copies by identity. They are kept, so that nothing else can have their identities.
        self._copies: dict[int, DirectoryNode] = {}

    def own(self, children: dict[bytes, Node], name: bytes, directory: DirectoryNode) -> DirectoryNode:
        """Return a directory to be changed: if it is shared, a copy, which takes its place in this tree.

        Args:
            children: the files of the directory that it is in, which is not shared.
            name: its name there.
            directory: the directory.
        """
        if directory.layer > self.top or id(directory) in self._copies:
            return directory
        made = children[name] = copy_directory(directory)
        self._copies[id(made)] = made
        return made

    def own_all(self, root: DirectoryNode) -> None:
        """Copy everything that is shared.

        A layer may change a file of a layer below by a link to it, and all names of that file show it. To find these
        takes as long as to copy the tree.

        Args:
            root: the root of this tree, which is not shared.
        """
        copies: dict[int, Node] = {}
        pending = [root]
        while pending:
            children = pending.pop().children
            for name, child in children.items():
                if isinstance(child, DirectoryNode):
                    pending.append(self.own(children, name, child))
                elif child.layer <= self.top:
                    if id(child) not in copies:
                        copies[id(child)] = copy(child)
                    children[name] = copies[id(child)]
        self.top = _NONE
        self._copies.clear()


def copy_directory(directory: DirectoryNode) -> DirectoryNode:
    """Return a copy of a directory, with the same files in it."""
    made = copy(directory)
    made.children = dict(directory.children)
    return made
