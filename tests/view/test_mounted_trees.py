"""A view shows what a mount shows: the same files with the same metadata and content, on every driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from layerstore_core import InvalidLayer, Layer, LayerStore, StoreConfig
from layerstore_core.tar.entry import EntryType
from layerstore_core.view.nodes import FileNode, Node
from layerstore_core.view.tree import TreeView
from tests import tars, trees
from tests.across.chains import CHAINS
from tests.across.conftest import differences, tree_of
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.driver_roots import remove_root, why_not
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


@pytest.fixture(params=["vfs", "overlay2"])
def chains(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Chains]:
    if reason := why_not(request.param):
        pytest.skip(f"{request.param}: {reason}")
    root = tmp_path / "root"
    with ExitStack() as opened:
        opened.callback(remove_root, root)
        config = StoreConfig(root=root, driver=request.param, durability="none")
        yield Chains(opened.enter_context(LayerStore.open(config)))


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
