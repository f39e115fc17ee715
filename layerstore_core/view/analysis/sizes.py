"""Sums of the regular files below each directory of a tree."""

from __future__ import annotations

from typing import NamedTuple

from layerstore_core.view.nodes import FileNode, Node


class Sum(NamedTuple):
    """What is below a directory.

    Attributes:
        size: the bytes of its regular files.
        files: how many files of any type there are, the directory itself not counted.
    """

    size: int
    files: int


def directory_sums(root: Node) -> dict[int, Sum]:
    """Return the sums of a directory and of all directories below it, by the identities (`id`) of their nodes.

    A file with several hard links counts once, in the directory of its first path. So the sums of the directories in a
    directory, and its own files, make up its sum.

    Args:
        root: a directory, whose nodes must be kept as long as the result is used.
    """
    sums: dict[int, Sum] = {}
    counted: set[int] = set()
    #: The directories on the way to the present one: what is left of their directories, and their sums so far.
    way: list[tuple[Node, list[Node], int, int]] = [_entered(root, counted)]
    while way:
        node, left, size, files = way.pop()
        if left:
            inner = left.pop()
            way += [(node, left, size, files), _entered(inner, counted)]
            continue
        sums[id(node)] = Sum(size, files)
        if way:
            above, others, outer_size, outer_files = way.pop()
            way.append((above, others, outer_size + size, outer_files + files))
    return sums


def _entered(node: Node, counted: set[int]) -> tuple[Node, list[Node], int, int]:
    """Return a directory, the directories in it, the last first, and the sums of its own files."""
    size = files = 0
    inner = []
    for _, child in sorted(node.children.items()):
        files += 1
        if child.is_directory:
            inner.append(child)
        elif isinstance(child, FileNode):
            if child.linked:
                if id(child) in counted:
                    continue
                counted.add(id(child))
            size += child.size
    return node, inner[::-1], size, files
