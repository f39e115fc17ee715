"""Comparing the trees of images, layers and writable layers, without a mount; and the layer that is the difference.

Content is read only where nothing else decides: a payload at the same place of the same layer is the same, and one of
another size or another checksum is another one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, TypeAlias, get_args

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.base.digests import DiffID
from layerstore_core.base.replace_file import OutputFile, naming, replacing
from layerstore_core.diff.change import ChangeKind
from layerstore_core.errors import while_doing
from layerstore_core.images.image import Image
from layerstore_core.store.handles import Layer, RWLayer, live_layer
from layerstore_core.tar.entry import EntryType
from layerstore_core.view.compare import ASPECTS, TreeChange, compare_views
from layerstore_core.view.tree import TreeView

if TYPE_CHECKING:
    from layerstore_core.images.output import BinaryWriter
    from layerstore_core.images.remote.image import RegistryImage
    from layerstore_core.store.store import LayerStore
    from layerstore_core.view.nodes import FileNode, Node

#: How thoroughly trees are compared: which names there are, with all metadata, or with all contents, too.
Depth = Literal["names", "metadata", "content"]
DEPTHS: Final[tuple[Depth, ...]] = get_args(Depth)
#: What can be compared. An image in a registry needs no store.
Tree: TypeAlias = "Image | Layer | RWLayer | RegistryImage"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class DiffStat:
    """The numbers of a comparison. A directory that was added or deleted counts with all files in it.

    Attributes:
        added: the number of files of any type that were added.
        changed: of those that were changed.
        deleted: of those that were deleted.
        added_bytes: the sizes of regular files that were added, or have changed content, in the second tree.
        deleted_bytes: the sizes of regular files that were deleted, or have changed content, in the first tree.
    """

    added: int
    changed: int
    deleted: int
    added_bytes: int
    deleted_bytes: int


@dataclass(frozen=True, slots=True)
class TreeDiff:
    """What differs between two trees.

    Attributes:
        changes: the differences, parents first.
    """

    changes: tuple[TreeChange, ...]

    def __bool__(self) -> bool:
        """Return whether anything differs."""
        return bool(self.changes)

    @property
    def stat(self) -> DiffStat:
        """The numbers of the comparison."""
        counts = dict.fromkeys(ChangeKind, 0)
        added = deleted = 0
        for change in self.changes:
            counts[change.kind] += 1
            if change.kind is ChangeKind.DELETE and change.before is not None:
                files = list(_below(change.before))
                counts[change.kind] += len(files) - 1
                deleted += sum(_size(node) for node in files)
            elif change.kind is ChangeKind.ADD or {"type", "content"} & set(change.what):
                added += _size(change.after)
                deleted += _size(change.before)
        return DiffStat(counts[ChangeKind.ADD], counts[ChangeKind.MODIFY], counts[ChangeKind.DELETE], added, deleted)


@dataclass(frozen=True)
class _Side:
    """One of two trees that are compared.

    Attributes:
        view: its view.
        diff_ids: the diff IDs of its layers; `None` is a writable layer.
        remote: whether its layers are in a registry.
    """

    view: TreeView
    diff_ids: Sequence[DiffID | None]
    remote: bool = False


def compare(
    store: LayerStore | None, first: Tree, second: Tree, *, by: Depth = "content", ignore: Collection[str] = ()
) -> TreeDiff:
    """Compare two trees; see `Images.diff`.

    Args:
        store: an open store; `None` if both trees are images in registries.
        first: the first tree.
        second: the second tree.
        by: how thoroughly they are compared.
        ignore: what is not compared, of `ASPECTS`.
    """
    if by not in DEPTHS:
        raise ValueError(f"trees are compared by {', '.join(DEPTHS)}, not by {by!r}")
    if unknown := set(ignore) - set(ASPECTS):
        raise ValueError(f"{', '.join(sorted(unknown))} cannot be ignored; what can be is {', '.join(ASPECTS)}")
    ignored = {"names": set(ASPECTS), "metadata": {"content"}, "content": set[str]()}[by] | set(ignore)
    with _opened(store, first) as before, _opened(store, second) as after:
        if before.diff_ids == after.diff_ids and None not in before.diff_ids:
            return TreeDiff(())
        return TreeDiff(tuple(_changes(before, after, ignored)))


def compare_images(
    first: RegistryImage,
    second: RegistryImage,
    *,
    by: Literal["names", "metadata", "content"] = "content",
    ignore: Collection[str] = (),
) -> TreeDiff:
    """Compare the trees of two images in registries, without a store.

    Layers that both have are fetched once, and no content of them. Contents are compared by the digests in tables of
    contents, where there are any.

    Args:
        first: the first image.
        second: the second image.
        by: how thoroughly they are compared, as for `Images.diff`.
        ignore: what is not compared, as for `Images.diff`.

    Returns:
        The differences; it is false if there are none.

    Raises:
        InvalidImage, InvalidLayer: an image is damaged.
        RegistryError: a registry does not give what is needed.
        ValueError: `by` or `ignore` is unknown.
    """
    return compare(None, first, second, by=by, ignore=ignore)


@contextmanager
def open_comparison(
    store: LayerStore, first: Tree, second: Tree
) -> Iterator[tuple[Iterator[TreeChange], TreeView, TreeView]]:
    """Compare two trees by all that can differ, and keep their views open for a `with` block.

    Args:
        store: an open store.
        first: the first tree.
        second: the second tree.

    Yields:
        The differences, parents first, and the views of both trees.

    Raises:
        LayerDoesNotExist: a layer is missing.
        IntegrityError, InvalidLayer: a layer is damaged.
    """
    with _opened(store, first) as before, _opened(store, second) as after:
        yield _changes(before, after, ()), before.view, after.view


def write_difference(store: LayerStore | None, first: Tree, second: Tree, target: str | BinaryWriter) -> None:
    """Write the layer that makes the second tree of the first one; see `Images.write_diff`."""
    from layerstore_core.images.layer.difference import layer_of
    from layerstore_core.images.layer.tar import open_tar

    with ExitStack() as stack:
        before, after = (stack.enter_context(_opened(store, one)) for one in (first, second))
        layer = layer_of(_changes(before, after, (), implied=True), after.view)
        tar = stack.enter_context(open_tar(layer, image=after.view))
        out = stack.enter_context(replacing(target)) if isinstance(target, str) else target
        while chunk := tar.read(_CHUNK):
            out.write(chunk)


def _changes(before: _Side, after: _Side, ignore: Collection[str], *, implied: bool = False) -> Iterator[TreeChange]:
    shared = _shared_layers(before, after)
    if before.remote and not after.remote:
        before.view.take_base(after.view, shared)  # so they are not fetched
    elif after.remote:
        after.view.take_base(before.view, shared)
    before.view.share_base(after.view, shared)

    def same(old: FileNode, new: FileNode) -> bool:
        digests = before.view.digest(old), after.view.digest(new)
        if all(digests):
            return digests[0] == digests[1]
        if any(digests):
            # Hash what is here, rather than fetch what is not.
            own = before.view.chunks(old) if digests[1] else after.view.chunks(new)
            return _sha256(own) == (digests[0] or digests[1])
        layers = before.diff_ids[old.layer], after.diff_ids[new.layer]
        if layers[0] is not None and layers[0] == layers[1] and old.offset == new.offset:
            return True
        whole = old.sparse is None and new.sparse is None
        if whole and old.name and new.name and old.crc != new.crc:
            return False
        with before.view.open_node(old) as one, after.view.open_node(new) as other:
            while (chunk := one.read(_CHUNK)) == other.read(_CHUNK):
                if not chunk:
                    return True
        return False

    return compare_views(before.view, after.view, same, ignore=ignore, implied=implied)


def _sha256(chunks: Iterator[bytes]) -> bytes:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


def _shared_layers(one: _Side, other: _Side) -> int:
    """Return how many of the first layers are the same in both trees."""
    pairs = zip(one.diff_ids, other.diff_ids, strict=False)
    return sum(1 for _ in takewhile(lambda pair: None is not pair[0] == pair[1], pairs))


@contextmanager
def _opened(store: LayerStore | None, tree: Tree) -> Iterator[_Side]:
    """Open one of the trees for a `with` block."""
    with ExitStack() as stack:
        if not isinstance(tree, (Image, Layer, RWLayer)):
            yield _Side(stack.enter_context(tree.view()), tree.diff_ids, remote=True)
            return
        assert store is not None, "what is in a store is compared in that store"
        if isinstance(tree, RWLayer):
            yield _opened_changes(store, tree, stack)
            return
        chain_id = tree.chain_id
        if chain_id is None:
            yield _Side(stack.enter_context(TreeView(())), ())
            return
        layer = stack.enter_context(store.get(chain_id))
        yield _Side(stack.enter_context(layer.view()), _diff_ids(layer))


def _opened_changes(store: LayerStore, rw: RWLayer, stack: ExitStack) -> _Side:
    """Open the tree of a writable layer as it is now: its changes are copied to a temporary file without a name."""
    from layerstore_core.images.make.rw_changes import buffered, open_changes
    from layerstore_core.store.views import view_of
    from layerstore_core.view.layers import TarLayer

    directory = store.context.scratch_directory()
    name = f"{directory} (a temporary file there)"
    with naming(name):
        spool = stack.enter_context(tempfile.TemporaryFile(dir=directory))  # noqa: SIM115
    opened = Descriptor(os.dup, spool.fileno())
    with (
        OutputFile(name, opened, may_block=False) as target,
        while_doing(f"copying the changes of writable layer {rw.name!r}"),
        open_changes(rw) as changes,
    ):
        shutil.copyfileobj(buffered(changes), target, _CHUNK)
    parent = stack.enter_context(store.get(rw.parent.chain_id)) if rw.parent is not None else None

    def open_spool() -> BinaryIO:
        return open(f"/proc/self/fd/{spool.fileno()}", "rb")

    node = live_layer(parent) if parent is not None else None
    view = stack.enter_context(view_of(store.context, node, above=[TarLayer(open_spool)]))
    return _Side(view, (*(_diff_ids(parent) if parent is not None else ()), None))


def _diff_ids(layer: Layer) -> tuple[DiffID, ...]:
    found = []
    one: Layer | None = layer
    while one is not None:
        found.append(one.diff_id)
        one = one.parent
    return tuple(found[::-1])


def _below(node: Node) -> Iterator[Node]:
    pending = [node]
    while pending:
        here = pending.pop()
        yield here
        pending += here.children.values()


def _size(node: Node | None) -> int:
    return node.size if node is not None and node.type is EntryType.FILE else 0
