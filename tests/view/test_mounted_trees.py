"""A view shows what a mount shows: the same files with the same metadata and content, on every driver."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from layerstore_core import InvalidLayer, Layer, LayerStore
from layerstore_core.tar.entry import EntryType
from layerstore_core.view.nodes import FileNode, Node
from layerstore_core.view.tree import TreeView
from tests import tars, trees
from tests.across.chains import CHAINS, attributes, d, f, link, sym, with_records
from tests.across.conftest import differences, tree_of
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.store.layers import register

pytestmark = pytest.mark.needs_root


def tree_in(view: TreeView) -> trees.Snapshot:
    """Return all of a view in the form of `tree_of`."""
    names: dict[int, list[bytes]] = {}
    found: dict[bytes, Node] = {}
    for path, node in view.walk():
        assert path not in found
        found[path] = node
        names.setdefault(id(node), []).append(path)
    root = found.pop(b"")
    top = (root.st_mode, root.uid, root.gid, "root", b"", dict(root.xattrs), ())
    return {b"": top} | {
        path: (
            node.st_mode,
            node.uid,
            node.gid,
            "recent" if node.implied else node.mtime_ns,
            content_of(view, node),
            {os.fsdecode(name): value for name, value in node.xattrs.items()},
            sorted(names[id(node)]) if node.type is not EntryType.DIR else None,
        )
        for path, node in found.items()
    }


def content_of(view: TreeView, node: Node) -> object:
    if isinstance(node, FileNode):
        with view.open_node(node) as file:
            content = file.read()
        assert len(content) == node.size
        return content
    if node.type is EntryType.DIR:
        return None
    return node.linkname if node.type is EntryType.SYMLINK else os.makedev(node.devmajor, node.devminor)


class Chains:
    """A store, and the comparison of a layer's view with its mount."""

    def __init__(self, store: LayerStore) -> None:
        self.store = store

    def compare(self, layer: Layer) -> None:
        with self.store.context.driver.mounted(layer.cache_id) as path, layer.view() as view:
            assert differences(tree_in(view), tree_of(Path(path))) == []


@pytest.fixture
def chains(mounting_store: LayerStore) -> Chains:
    return Chains(mounting_store)


#: More chains, each for a rule of merging.
MORE = {
    "opaque directory with a hard link to a hidden file": [
        [d(b"d"), f(b"d/a", b"a"), f(b"d/b", b"b")],
        [link(b"d/c", b"d/a"), link(b"d/b", b"d/b"), f(b"d/.wh..wh..opq")],
    ],
    "implied directories in place of links that lead nowhere, and of files": [
        [sym(b"l", b"nowhere"), sym(b"to-file", b"file"), f(b"file", b"f"), sym(b"m", b"n"), sym(b"n", b"d"), d(b"d")],
        [f(b"l/x"), f(b"to-file/y"), f(b"file/z"), f(b"m/w"), sym(b"own", b"missing/dir"), f(b"own/v")],
    ],
    "files of aufs": [
        [
            f(b".wh..wh.plnk/1.2", b"shared", mode=0o640),
            link(b"a", b".wh..wh.plnk/1.2"),
            link(b"b", b".wh..wh.plnk/1.2"),
        ],
        [f(b".wh..wh.aufs"), d(b".wh..wh.orph"), f(b".wh.a"), f(b"c", b"c")],
    ],
    "metadata of the root": [
        [d(b"./", mode=0o700, uid=3)],
        [f(b"a")],
        [attributes(d(b"./", mode=0o711, gid=5), user_x=b"1"), f(b"/", b"no file")],
    ],
}

#: Chains in which an overlay has to make a directory anew, of which vfs keeps the parent's metadata, as views do.
KEPT_BY_VFS = {
    "opaque root after files without directories": [
        [d(b"a", mode=0o700), f(b"a/old"), d(b"a/b"), f(b"a/b/old"), d(b"gone")],
        [f(b"a/b/x"), f(b"implied/y"), f(b"gone/.wh.z"), f(b".wh..wh..opq")],
    ],
    "directory in place of a file before everything is hidden": [
        [f(b"x"), f(b"y")],
        [f(b"x/.wh..wh..opq"), f(b"implied/.wh..wh..opq"), f(b".wh..wh..opq")],
    ],
    "owners that are left alone": [
        [f(b"a", uid=(1 << 32) - 1, gid=(1 << 32) - 1), d(b"d", uid=3, gid=4), f(b"h", uid=5, gid=6)],
        [d(b"d", uid=(1 << 32) - 1, gid=(1 << 32) - 1), link(b"i", b"h", uid=(1 << 32) - 1, gid=7)],
        [with_records(d(b"d"), (b"uid", b"-1"), (b"gid", b"9")), with_records(f(b"a"), (b"uid", b"-1"))],
    ],
}


@pytest.mark.parametrize("name", KEPT_BY_VFS)
@pytest.mark.parametrize("mounting_store", ["vfs"], indirect=True)
def test_view_keeps_metadata_as_vfs_does(chains: Chains, name: str) -> None:
    layer: Layer | str = ""
    for entries in KEPT_BY_VFS[name]:
        layer = register(chains.store, tars.tar(*entries), layer)
        chains.compare(layer)


@pytest.mark.parametrize("name", MORE)
def test_view_shows_what_its_mount_shows_by_each_rule(chains: Chains, name: str) -> None:
    layer: Layer | str = ""
    for entries in MORE[name]:
        layer = register(chains.store, tars.tar(*entries), layer)
        chains.compare(layer)


@pytest.mark.parametrize("name", CHAINS)
def test_view_of_a_difficult_chain_shows_what_its_mount_shows(chains: Chains, name: str) -> None:
    layer: Layer | str = ""
    for entries in CHAINS[name]():
        layer = register(chains.store, tars.tar(*entries), layer)
        chains.compare(layer)


@settings(
    max_examples=settings.default.max_examples // 2,  # for each driver
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(chain=CHAINS_OF_ENTRIES)
def test_view_of_any_chain_shows_what_its_mount_shows(chains: Chains, chain: list[list[Entry]]) -> None:
    registered: list[Layer] = []
    for entries in chain:
        try:
            tar = tars.tar(*(entry.tar() for entry in entries))
            layer = register(chains.store, tar, registered[-1] if registered else "")
        except InvalidLayer:
            continue
        registered.append(layer)
        chains.compare(layer)
    for layer in reversed(registered):
        chains.store.release(layer)
