"""Fixtures for tests that compare the drivers: one store with each driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from layerstore_core import InvalidLayer, Layer, LayerStore, StoreConfig
from layerstore_core.tree.xattrs import read_xattrs
from tests import trees
from tests.driver_roots import DRIVERS, remove_root, why_not
from tests.store.layers import register

#: The kernel has set later times at the moment of a change. They differ from driver to driver.
RECENT_NS = 1_750_000_000_000_000_000


class Stores:
    """One store with each driver. Every operation is done in all of them.

    Attributes:
        stores: the stores by the driver's name.
    """

    def __init__(self, stores: dict[str, LayerStore]) -> None:
        self.stores = stores

    def register(self, tar: bytes, parents: dict[str, Layer] | None = None) -> dict[str, Layer]:
        """Register a tar in each store. Return the layers by the driver's name."""
        layers, results = self.try_register(tar, parents)
        assert layers is not None, results
        return layers

    def try_register(
        self, tar: bytes, parents: dict[str, Layer] | None = None
    ) -> tuple[dict[str, Layer] | None, dict[str, str]]:
        """Register a tar that may be refused. Return the layers if all stores accept it, and each store's result.

        The sizes of the layers must be the same.
        """
        layers, results = {}, {}
        for name, store in self.stores.items():
            try:
                layers[name] = register(store, tar, parents[name] if parents else "")
                results[name] = "accepted"
            except InvalidLayer as error:
                results[name] = f"refused for {error.entry!r}"
        sizes = {name: layer.diff_size for name, layer in layers.items()}
        assert len(set(sizes.values())) <= 1, sizes
        if len(layers) == len(self.stores):
            return layers, results
        self.release(layers)
        return None, results

    def release(self, layers: dict[str, Layer]) -> None:
        for name, layer in layers.items():
            self.stores[name].release(layer)

    def trees(self, layers: dict[str, Layer]) -> dict[str, trees.Snapshot]:
        """Return the files that a container on the layer sees, in each store."""
        found = {}
        for name, layer in layers.items():
            rw = self.stores[name].create_rw_layer("look", layer.chain_id)
            with rw.mounted() as path:
                found[name] = tree_of(Path(path))
            self.stores[name].release_rw_layer(rw)
        return found

    def assert_same_trees(self, layers: dict[str, Layer]) -> trees.Snapshot:
        """Check that all drivers show the same tree, and return it."""
        found = self.trees(layers)
        wanted = found.pop("vfs")
        for name, tree in found.items():
            assert differences(tree, wanted) == [], f"{name} does not show what vfs shows"
        return wanted


def tree_of(path: Path) -> trees.Snapshot:
    """Return all of a tree. Recent times, and the times of the root, are replaced by words."""
    root = path.stat()
    top = (root.st_mode, root.st_uid, root.st_gid, "root", b"", read_xattrs(os.fsencode(path)), ())
    return {b"": top} | {
        name: tuple("recent" if at == 3 and time > RECENT_NS else time for at, time in enumerate(seen))
        if isinstance(seen[3], int)
        else seen
        for name, seen in trees.snapshot(path).items()
    }


def differences(found: trees.Snapshot, wanted: trees.Snapshot) -> list[str]:
    """Return the differences of two trees, one line for each path."""
    fields = ("mode", "uid", "gid", "mtime", "content", "xattrs", "names")
    lines = []
    for path in sorted(found.keys() | wanted.keys()):
        if path not in found or path not in wanted:
            lines.append(f"{path!r} is {'missing' if path in wanted else 'there'}")
            continue
        lines += [
            f"{path!r}: {field} is {one!r}, not {other!r}"
            for field, one, other in zip(fields, found[path], wanted[path], strict=True)
            if one != other
        ]
    return lines


@pytest.fixture
def stores(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stores]:
    """Yield an open, empty store with each driver."""
    for name in DRIVERS:
        if reason := why_not(name):
            pytest.skip(f"{name}: {reason}")
    mount = Path(request.getfixturevalue("btrfs_mount"))
    with ExitStack() as opened:
        stores = {}
        for name in DRIVERS:
            root = (mount if name == "btrfs" else tmp_path) / tmp_path.name / f"across-{name}"
            opened.callback(remove_root, root)
            config = StoreConfig(root=root, driver=name, durability="none")
            stores[name] = opened.enter_context(LayerStore.open(config))
        yield Stores(stores)
