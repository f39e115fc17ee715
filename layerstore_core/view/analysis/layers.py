"""What each layer of a chain changes, how many bytes it writes, and how many of these a later layer hides.

The definitions:

- A layer *writes* the regular files of its tar that are there once it is unpacked, each with its size. A file with
  several hard links counts once; a file that another entry of the same tar replaces does not count.
- A file is *visible* if the merged tree of all layers has it.
- What is written and not visible is *wasted*: a later layer has *overwritten* it, or *deleted* it.
- The *efficiency* is the visible bytes divided by the written ones; 1 if nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from layerstore_core.diff.change import ChangeKind
from layerstore_core.view.limits import Budget
from layerstore_core.view.nodes import DirectoryNode, FileNode, Node
from layerstore_core.view.tree import TreeView

#: A content that a layer has written: the index of the layer, and where in its tar.
Payload: TypeAlias = tuple[int, int]
_METADATA: Final = ("mode", "uid", "gid", "mtime_ns", "linkname", "devmajor", "devminor", "xattrs", "implied")


class PathChange(NamedTuple):
    """What one layer has changed at a path.

    Attributes:
        path: relative to the root, without a slash at the beginning; the root itself is empty.
        kind: whether it was added, changed or deleted. If a directory was deleted, what was in it is not listed. A
            directory that a layer has an entry for counts as changed only if its metadata is another.
        before: the file as it was; `None` if it was added.
        after: the file as it is; `None` if it was deleted.
        moved: of a regular file: the path that has lost the same content in the same layer, or that has got it.
    """

    path: bytes
    kind: ChangeKind
    before: Node | None
    after: Node | None
    moved: bytes | None = None


class Wasted(NamedTuple):
    """A file that a layer has written, and that the merged tree does not have.

    Attributes:
        path: the path that it was last seen at.
        size: its size in bytes.
        layer: index of the layer that has written it.
        hidden_by: index of the layer that has overwritten or deleted it.
        kind: which of both.
        repeated: it was overwritten with a file of the same size and checksum, as `chown` and `chmod` do.
    """

    path: bytes
    size: int
    layer: int
    hidden_by: int
    kind: Literal["overwritten", "deleted"]
    repeated: bool


@dataclass(frozen=True, slots=True)
class AnalyzedLayer:
    """What one layer does.

    Attributes:
        changes: what it changes in the tree of the layers below, parents first, the names of a directory sorted.
        tree: the merged tree up to this layer; `None` if the trees were not to be kept.
        written: the bytes of the files that it writes.
        wasted: those of them that a later layer hides.
    """

    changes: tuple[PathChange, ...]
    tree: Node | None
    written: int
    wasted: int

    def count(self, kind: ChangeKind) -> int:
        """Return the number of changes of one kind. A deleted directory counts as one."""
        return sum(change.kind is kind for change in self.changes)


@dataclass(frozen=True, slots=True)
class TreeAnalysis:
    """What the layers of a view do, the base first.

    Attributes:
        layers: the layers.
        root: the merged tree of all.
        wasted: the files that are written and not visible, the largest first.
    """

    layers: tuple[AnalyzedLayer, ...]
    root: Node
    wasted: tuple[Wasted, ...]

    @property
    def written(self) -> int:
        """The bytes that all layers write."""
        return sum(layer.written for layer in self.layers)

    @property
    def hidden(self) -> int:
        """Those of them that are not visible."""
        return sum(layer.wasted for layer in self.layers)

    @property
    def visible(self) -> int:
        """The bytes of the regular files of the merged tree, hard links once."""
        return self.written - self.hidden

    @property
    def efficiency(self) -> float:
        """The visible bytes divided by the written ones, from 0 to 1."""
        return self.visible / self.written if self.written else 1.0


def analyze_layers(view: TreeView, *, keep_trees: bool = False) -> TreeAnalysis:
    """Return what each layer of a view changes and wastes.

    Args:
        view: the view.
        keep_trees: keep the tree of each layer, too. Trees share what a layer leaves alone.

    Raises:
        IntegrityError, InvalidLayer: a layer is damaged, or the limits are exceeded.
    """
    #: The sizes of the contents that each layer has written, and what has last hidden each content.
    written: list[dict[Payload, int]] = []
    hidden: dict[Payload, Wasted] = {}
    changes_of: list[tuple[PathChange, ...]] = []
    trees: list[Node | None] = []
    budget = Budget()
    for number, (before, after) in enumerate(view.merge_steps()):
        budget.begin_layer(number)
        changes = _with_moves(list(_changes(before, after, budget)))
        written.append(_written(changes, number))
        hidden.update(_hidden(changes, number, budget))
        changes_of.append(tuple(changes))
        trees.append(after if keep_trees else None)
    root = view.root
    visible = {(node.layer, node.offset) for _, node in _files(b"", root, budget)}
    wasted = sorted(
        (one for payload, one in hidden.items() if payload not in visible), key=lambda one: (-one.size, one.path)
    )
    sums = [0] * len(written)
    for one in wasted:
        sums[one.layer] += one.size
    analyzed = tuple(
        AnalyzedLayer(changes, tree, sum(payloads.values()), lost)
        for changes, tree, payloads, lost in zip(changes_of, trees, written, sums, strict=True)
    )
    return TreeAnalysis(analyzed, root, tuple(wasted))


def changes_between(before: Node, after: Node) -> tuple[PathChange, ...]:
    """Return what differs between the merged trees of two layers of one view, with moves; see `AnalyzedLayer.changes`.

    Args:
        before: the tree of a layer, as `analyze_layers` keeps it.
        after: that of another one.
    """
    return tuple(_with_moves(list(_changes(before, after, Budget()))))


def _changes(before: Node, after: Node, budget: Budget) -> Iterator[PathChange]:
    """Yield what differs between the tree before a layer and the one with it; the trees share what it leaves alone."""
    pending: list[tuple[bytes, Node | None, Node | None]] = [(b"", before, after)]
    while pending:
        path, old, new = pending.pop()
        if new is None:
            yield PathChange(path, ChangeKind.DELETE, old, None)
            continue
        if old is None:
            yield PathChange(path, ChangeKind.ADD, None, new)
            olds: dict[bytes, Node] = {}
        else:
            if _differ(old, new):
                yield PathChange(path, ChangeKind.MODIFY, old, new)
            olds = old.children
        news = new.children
        if not (olds or news):
            continue
        budget.walk(len(olds) + len(news))
        if not news and not isinstance(new, DirectoryNode):
            continue  # a file has replaced the directory: that is one change
        prefix = path + b"/" if path else b""
        names = {name for name, child in news.items() if olds.get(name) is not child}
        names.update(name for name in olds if name not in news)
        pending += [(prefix + name, olds.get(name), news.get(name)) for name in sorted(names, reverse=True)]


def _differ(old: Node, new: Node) -> bool:
    if old.type is not new.type:
        return True
    if isinstance(old, FileNode) and isinstance(new, FileNode) and (old.layer, old.offset) != (new.layer, new.offset):
        return True
    return any(getattr(old, name) != getattr(new, name) for name in _METADATA)


def _with_moves(changes: list[PathChange]) -> list[PathChange]:
    """Say of files that were deleted and added with the same content where they went, and where they come from."""
    added: dict[tuple[int, int], list[int]] = {}
    for number, (_, kind, _, node, _) in enumerate(changes):
        if kind is ChangeKind.ADD and isinstance(node, FileNode) and node.size and node.crc:
            added.setdefault((node.size, node.crc), []).append(number)
    if not added:
        return changes
    for number, change in enumerate(changes):
        node = change.before
        if change.kind is not ChangeKind.DELETE or not isinstance(node, FileNode):
            continue
        found = added.get((node.size, node.crc))
        if found:
            target = found.pop(0)
            changes[number] = change._replace(moved=changes[target].path)
            changes[target] = changes[target]._replace(moved=change.path)
    return changes


def _written(changes: Sequence[PathChange], layer: int) -> dict[Payload, int]:
    """Return the sizes of the contents that a layer has written."""
    return {
        (layer, node.offset): node.size
        for _, _, _, node, _ in changes
        if isinstance(node, FileNode) and node.layer == layer
    }


def _hidden(changes: Sequence[PathChange], number: int, budget: Budget) -> Iterator[tuple[Payload, Wasted]]:
    """Yield the contents of lower layers that a layer hides at one of their names."""
    for path, change, before, after, _ in changes:
        if before is None:
            continue
        kind: Literal["overwritten", "deleted"] = "overwritten" if change is ChangeKind.MODIFY else "deleted"
        if isinstance(before, FileNode):
            repeated = False
            if isinstance(after, FileNode):
                if (before.layer, before.offset) == (after.layer, after.offset):
                    continue  # another metadata, by a hard link
                known = bool(before.crc) or not before.size
                repeated = known and (before.size, before.crc) == (after.size, after.crc)
            yield (before.layer, before.offset), Wasted(path, before.size, before.layer, number, kind, repeated)
        elif before.children and not isinstance(after, DirectoryNode):
            for inner, node in _files(path, before, budget):
                yield (node.layer, node.offset), Wasted(inner, node.size, node.layer, number, kind, False)


def _files(path: bytes, root: Node, budget: Budget) -> Iterator[tuple[bytes, FileNode]]:
    """Yield the regular files of a tree."""
    pending = [(path, root)]
    while pending:
        here, node = pending.pop()
        children = node.children
        budget.walk(len(children))
        prefix = here + b"/" if here else b""
        for name, child in children.items():
            if isinstance(child, FileNode):
                yield prefix + name, child
            elif child.children:
                pending.append((prefix + name, child))
