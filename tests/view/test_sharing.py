"""Trees with the same lower layers: merged once, with what both have in common as the same objects, and not changed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from layerstore_core import InvalidLayer
from layerstore_core.view.compare import compare_views
from layerstore_core.view.layers import Batch, TarLayer
from layerstore_core.view.nodes import FileNode, Node
from layerstore_core.view.tree import TreeView
from tests import tars
from tests.across.chains import d, f, link, sym
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.view.conftest import view_of

METADATA = (
    "type", "mode", "uid", "gid", "size", "mtime_ns", "linkname", "devmajor", "devminor", "xattrs", "layer", "sparse",
    "implied",
)  # fmt: skip


def described(view: TreeView) -> dict[bytes, Any]:
    """Return all that a view says about its files, with their other names and their contents."""
    return {
        path: (
            *(getattr(node, name) for name in METADATA),
            view.names_of(node) if len(view.names_of(node)) > 1 else [],
            content(view, node) if isinstance(node, FileNode) else b"",
        )
        for path, node in view.walk()
    }


def content(view: TreeView, node: FileNode) -> bytes:
    return b"".join(view.payload(node))


def differences(before: TreeView, after: TreeView, **options: Any) -> list[tuple[Any, ...]]:
    def same(old: FileNode, new: FileNode) -> bool:
        return content(before, old) == content(after, new)

    return [(one.path, one.kind, one.what) for one in compare_views(before, after, same, **options)]


def shared(base: list[list[bytes]], *further: list[list[bytes]]) -> list[TreeView]:
    """Return two views that share a base."""
    one, other = (view_of(*base, *above) for above in further)
    one.share_base(other, len(base))
    return [one, other]


def check(base: list[list[bytes]], *further: list[list[bytes]]) -> None:
    """Verify that two trees are the same, and differ in the same, whether they share their base or not."""
    alone = [view_of(*base, *above) for above in further]
    try:
        expected = [described(view) for view in alone]
    except InvalidLayer:
        with pytest.raises(InvalidLayer):
            shared(base, *further)
        return
    together = shared(base, *further)
    assert [described(view) for view in together] == expected
    for options in ({}, {"ignore": ("links",)}, {"implied": True}):
        assert differences(*together, **options) == differences(*alone, **options)
        assert differences(*together[::-1], **options) == differences(*alone[::-1], **options)


BASE = [
    d(b"a"), d(b"a/b"), f(b"a/b/x", b"1"), f(b"a/b/y", b"2"), d(b"c"), f(b"c/z", b"3"), sym(b"to-c", b"c"),
    f(b"l/1", b"linked"), link(b"m/2", b"l/1"), f(b"l/other"), f(b"m/other"),
]  # fmt: skip


@pytest.mark.parametrize(
    "above",
    [
        [d(b"a/b", mode=0o700)],
        [f(b"a/b/x", b"other"), d(b"a", mode=0o700), f(b"a/b/y", b"other")],
        [f(b"first"), d(b"c", mode=0o700)],
        [f(b"first"), f(b"a/first"), f(b"a/b/x", b"other")],
        [f(b"to-c/z", b"other")],
        [f(b"to-c/.wh.z")],
        [f(b"a/new"), f(b"a/.wh..wh..opq")],
        [f(b"a/b/new"), f(b"a/.wh..wh..opq")],
        [d(b"a/b"), f(b".wh..wh..opq")],
        [f(b"a", b"a file")],
        [f(b"m/.wh.2")],
        [f(b"l/.wh.1")],
        [f(b"l/1", b"linked")],
        [link(b"m/3", b"l/1", mode=0o600)],
        [f(b"a/b/early"), link(b"m/3", b"c/z", uid=7), f(b"a/b/late"), f(b"c/late")],
        [link(b"c/z", b"a/b/x"), link(b"l/1", b"a/b/y"), d(b"m", mode=0o700)],
        [link(b"s", b"to-c"), d(b"", mode=0o700)],
    ],
    ids=lambda above: b" ".join(entry[:100].rstrip(b"\0") for entry in above).decode(),
)
def test_a_layer_changes_its_own_tree_only(above: list[bytes]) -> None:
    for other in ([], [[f(b"else")]], [[f(b"a/b/x", b"3"), link(b"m/4", b"m/2")]]):
        check([BASE], [above], other)
        check([BASE, [f(b"in/between")]], [above], other)


def test_what_no_layer_has_touched_is_in_both_trees() -> None:
    one, other = (dict(view.walk()) for view in shared([BASE], [], [[f(b"a/b/new")]]))
    copied = {b"", b"a", b"a/b"}
    assert {path for path, node in one.items() if node is not other[path]} == copied
    assert other.keys() - one.keys() == {b"a/b/new"}


def test_shared_directories_are_not_compared() -> None:
    before, after = shared([BASE], [], [[f(b"a/b/new")]])
    seen: list[Node] = []

    class Watched(dict[bytes, Node]):
        def get(self, name: bytes, *_: Any) -> Any:
            seen.append(self[name])
            return self[name]

    node = before.find(b"c")[1]
    node.children = Watched(node.children)
    assert [path for path, *_ in differences(before, after, ignore=("links",))] == [b"a/b/new"]
    assert seen == []


class Counted(TarLayer):
    """A layer that counts how often its entries are read."""

    reads = 0

    def batches(self) -> Iterator[Batch]:
        self.reads += 1
        return super().batches()


def test_the_records_of_shared_layers_are_read_once() -> None:
    layers = [Counted(partial(io.BytesIO, tars.tar(*entries))) for entries in (BASE, [f(b"b")], [f(b"x")], [f(b"y")])]
    one, other = TreeView(layers[:3]), TreeView([*layers[:2], layers[3]])
    one.share_base(other, 2)
    assert differences(one, other)
    assert [layer.reads for layer in layers] == [1, 1, 1, 1]
    one.share_base(other, 2)
    assert [layer.reads for layer in layers] == [1, 1, 1, 1], "they have been merged"


def test_names_of_one_file_in_shared_directories_are_compared() -> None:
    before, after = shared([BASE], [], [[f(b"l/1", b"linked")]])
    assert [(path, what) for path, _, what in differences(before, after)] == [(b"m/2", ("links",))]
    assert differences(before, after, ignore=("links",)) == []


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(chain=CHAINS_OF_ENTRIES, other=CHAINS_OF_ENTRIES)
def test_any_trees_are_as_if_they_were_merged_alone(chain: list[list[Entry]], other: list[list[Entry]]) -> None:
    one, two = ([[entry.tar() for entry in layer] for layer in layers] for layers in (chain, other))
    for count in (1, len(one) - 1):
        check(one[:count], one[count:], two)
        check(one[:count], [], two)
