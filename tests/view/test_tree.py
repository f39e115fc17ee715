"""The merged tree: its order, its files, its errors, and the layers of drivers that keep tars themselves."""

from __future__ import annotations

import errno
import io
import os
from functools import partial
from pathlib import Path

import pytest

from layerstore_core import ChangeKind, InvalidLayer, LayerNotRetained, LayerStore, StoreConfig
from layerstore_core.view.layers import TarLayer
from layerstore_core.view.tree import TreeView
from tests import tars
from tests.across.chains import SPARSE, d, f, link, node, sym
from tests.driver_roots import remove_root
from tests.store.layers import register
from tests.view.conftest import view_of
from tests.view.test_mounted_trees import tree_in


def test_walk_is_sorted_by_path_and_has_parents_first() -> None:
    view = view_of([f(b"a/c"), f(b"a-b"), f(b"a"), d(b"a"), f(b"a/c"), f(b"a/b/x"), f(b"\xff"), f(b"B")])
    paths = [path for path, _ in view.walk()]
    assert paths == [b"", b"B", b"a", b"a-b", b"a/b", b"a/b/x", b"a/c", b"\xff"]
    assert [path for path, _ in view.walk(b"/a/")] == [b"a", b"a/b", b"a/b/x", b"a/c"]
    assert [path for path, _ in view.walk(b"B")] == [b"B"]
    with pytest.raises(FileNotFoundError):
        next(view.walk(b"none"))


def test_hard_links_share_a_node_and_its_metadata() -> None:
    view = view_of([f(b"a", b"x"), link(b"b", b"a"), f(b"c", b"x")], [link(b"d", b"b", mode=0o600, uid=7)])
    nodes = dict(view.walk())
    assert nodes[b"a"] is nodes[b"b"] is nodes[b"d"]
    assert (nodes[b"a"].mode, nodes[b"a"].uid, nodes[b"a"].layer) == (0o600, 7, 0)
    assert view.names_of(nodes[b"a"]) == [b"a", b"b", b"d"]
    assert view.names_of(nodes[b"c"]) == []


def test_layers_of_files_are_known() -> None:
    view = view_of([d(b"d"), f(b"d/a"), f(b"d/b")], [f(b"d/a")], [d(b"d", mode=0o700), f(b"x/y")])
    assert {path: one.layer for path, one in view.walk()} == {
        b"": -1,
        b"d": 2,
        b"d/a": 1,
        b"d/b": 0,
        b"x": 2,
        b"x/y": 2,
    }
    assert [(path, one.implied) for path, one in view.walk() if one.implied] == [(b"", True), (b"x", True)]


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        (b"d/a", [(0, "A"), (1, "C"), (2, "D"), (3, "A")]),
        (b"d", [(0, "A"), (3, "C")]),
        (b"/d/b", [(0, "A"), (4, "C")]),
        (b"e/f", [(4, "A"), (5, "D")]),
        (b"", [(1, "C")]),
        (b"never", []),
    ],
)
def test_changes_of_layers_to_a_path(path: bytes, changes: list[tuple[int, str]]) -> None:
    view = view_of(
        [d(b"d"), f(b"d/a"), f(b"d/b")],
        [f(b"d/a"), d(b"./")],
        [f(b"d/.wh.a")],
        [d(b"d"), f(b"d/a")],
        [link(b"d/c", b"d/b", uid=3), f(b"e/f")],
        [f(b".wh.e")],
    )
    assert [(one.layer, one.kind) for one in view.changes_to(path)] == [(at, ChangeKind(kind)) for at, kind in changes]


def test_content_can_be_read_from_any_position() -> None:
    view = view_of([f(b"big", bytes(range(256)) * 8000), tars.sparse_pax(b"sparse", *SPARSE, "1.0"), f(b"empty")])
    for path, content in ((b"big", bytes(range(256)) * 8000), (b"sparse", SPARSE[0]), (b"empty", b"")):
        with view.open(path) as file:
            assert file.read() == content
            assert file.read(1) == b""
            assert file.seek(0) == 0
            assert file.seek(0, os.SEEK_END) == len(content)
            file.seek(0)
            assert file.read(10) == content[:10]
            file.seek(len(content) + 5)
            assert file.read() == b""
            file.seek(len(content) // 3)
            assert file.read(1000) == content[len(content) // 3 :][:1000]
            with pytest.raises(ValueError, match="negative seek"):
                file.seek(-1)
        with pytest.raises(ValueError, match="closed"):
            file.read()


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (b"d", errno.EISDIR),
        (b"null", errno.EINVAL),
        (b"none", errno.ENOENT),
        (b"f/x", errno.ENOTDIR),
        (b"l", errno.ELOOP),
    ],
)
def test_what_is_no_file_cannot_be_opened(path: bytes, number: int) -> None:
    view = view_of([d(b"d"), f(b"f"), node(b"null", b"3", (1, 3)), sym(b"l", b"l")])
    with pytest.raises(OSError, match=r".") as caught:
        view.open(path)
    assert (caught.value.errno, caught.value.filename) == (number, os.fsdecode(path))


@pytest.mark.parametrize(
    "layers",
    [
        ([f(b"../out")],),
        ([f(b"a"), f(b"a/b")],),
        ([link(b"a", b"missing")],),
        ([d(b"d"), link(b"a", b"d")],),
        ([sym(b"a", b"")],),
        ([f(b".wh.")],),
        ([d(b"a"), f(b"a/b"), link(b"a", b"a/b")],),
        ([sym(b"a", b"b"), sym(b"b", b"a"), f(b"a/x")],),
        ([f(b"x"), sym(b"l", b"x"), f(b"l/y")],),
        ([f(b"x")], [sym(b"l", b"x"), f(b"l/y")]),
    ],
)
def test_what_unpacking_refuses_is_refused_with_the_entry(layers: tuple[list[bytes], ...]) -> None:
    with pytest.raises(InvalidLayer) as caught:
        list(view_of(*layers).walk())
    assert caught.value.entry
    assert caught.value.offset is not None


def test_closed_view_is_an_error_and_closes_once() -> None:
    closed: list[int] = []
    view = TreeView([TarLayer(partial(io.BytesIO, tars.tar(f(b"a", b"x"))))], lambda: closed.append(1))
    with view:
        file = view.open(b"a")
    view.close()
    assert closed == [1]
    for use in (view.walk().__next__, partial(view.open, b"a"), partial(view.changes_to, b"a"), file.read):
        with pytest.raises(ValueError, match="view is closed"):
            use()


def test_driver_that_keeps_tars_itself_is_read_from_its_diffs(tmp_path: Path) -> None:
    config = StoreConfig(root=tmp_path, driver="tarball", durability="none")
    layers = [[d(b"d"), f(b"d/a", b"old"), f(b"d/b", b"b" * 5000)], [f(b"d/a", b"new"), f(b"c", b"c")]]
    with LayerStore.open(config) as store:
        base = register(store, tars.tar(*layers[0]))
        with register(store, tars.tar(*layers[1]), base).view() as view:
            assert tree_in(view) == tree_in(view_of(*layers))
            assert (view / "d/a").read_text() == "new"
    remove_root(tmp_path)


def test_view_keeps_its_layer_and_needs_an_open_handle(tmp_path: Path) -> None:
    with LayerStore.open(root=tmp_path, driver="vfs", durability="none") as store:
        layer = register(store, tars.tar(f(b"a", b"x")))
        chain = layer.chain_id
        with layer.view(close_handle=True) as view:
            assert store.holders(chain) != []
            assert (view / "a").read_text() == "x"
        assert store.holders(chain) == []
        with pytest.raises(LayerNotRetained):
            layer.view()
