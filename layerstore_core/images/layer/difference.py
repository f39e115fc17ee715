"""The layer that makes one tree of another: what was added and changed, and whiteouts of what was deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from layerstore_core.diff.change import ChangeKind
from layerstore_core.images.layer.content import Walks
from layerstore_core.images.layer.places import Item, Places
from layerstore_core.tar.entry import EntryType, TarEntry
from layerstore_core.view.compare import TreeChange
from layerstore_core.view.nodes import FileNode, Node
from layerstore_core.view.tree import TreeView


class NodeContent:
    """The content of a file of a merged tree.

    Args:
        view: the tree, which stays open.
        node: the file.
    """

    __slots__ = ("_node", "_view", "size")

    def __init__(self, view: TreeView, node: FileNode) -> None:
        self._view = view
        self._node = node
        self.size = node.size

    def read(self, walks: Walks) -> Iterator[bytes]:
        """Yield the content.

        Raises:
            IntegrityError: the layer is damaged.
        """
        yield from self._view.chunks(self._node)


def layer_of(changes: Iterable[TreeChange], after: TreeView) -> Places:
    """Return the layer that makes the second tree of the first one.

    It has all names of a file of which one is new or has changed: a link to a file of the parent would need the
    parent's files, which a program that unpacks a layer alone does not have.

    Args:
        changes: all differences between the trees.
        after: the second tree. Its contents are read when the layer is.
    """
    places = Places(limited=False)
    done: set[int] = set()
    for change in changes:
        node = change.after
        if node is None:
            places.delete(change.path)
        elif node.type is EntryType.DIR:
            # What is in it makes a directory that no layer describes, as before.
            if not (node.implied and node.children and change.kind is ChangeKind.ADD):
                places.put(change.path, item_of(node, after))
        elif id(node) not in done:
            item = item_of(node, after)
            if node.linked:
                done.add(id(node))
            for path in after.names_of(node) or [change.path]:
                places.put(path, item)
    return places


def whole_layer(view: TreeView) -> Places:
    """Return the layer that has everything in a tree, and the root itself, if a layer describes it."""
    with TreeView(()) as empty:
        added = [TreeChange(path, ChangeKind.ADD, None, node) for path, node in view.walk() if path]
        if not view.root.implied:
            added.append(TreeChange(b"", ChangeKind.MODIFY, empty.root, view.root))
    return layer_of(added, view)


def item_of(node: Node, view: TreeView) -> Item:
    """Return a file of a merged tree as a file of a layer."""
    entry = TarEntry(
        b"",
        node.type,
        node.mode,
        node.uid,
        node.gid,
        mtime_ns=node.mtime_ns,
        linkname=node.linkname,
        devmajor=node.devmajor,
        devminor=node.devminor,
        xattrs=node.xattrs,
    )
    return Item(entry, NodeContent(view, node) if isinstance(node, FileNode) else None)
