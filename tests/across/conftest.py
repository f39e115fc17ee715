"""A store over each of the drivers, side by side."""

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

#: Times after this were set by the kernel when something was done, and differ from driver to driver.
RECENT_NS = 1_750_000_000_000_000_000


class Stores:
    """The same done to a store over each driver.

    Attributes:
        stores: by the driver's name.
    """

    def __init__(self, stores: dict[str, LayerStore]) -> None:
        self.stores = stores

    def register(self, tar: bytes, parents: dict[str, Layer] | None = None) -> dict[str, Layer]:
        """The layer of this tar, in each."""
        layers, said = self.try_register(tar, parents)
        assert layers is not None, said
        return layers

    def try_register(
        self, tar: bytes, parents: dict[str, Layer] | None = None
    ) -> tuple[dict[str, Layer] | None, dict[str, str]]:
        """As `register`, where the tar may be refused: the layers if all have taken it, and what each has said.

        All must find a layer to be of the same size.
        """
        layers, said = {}, {}
        for name, store in self.stores.items():
            try:
                layers[name] = register(store, tar, parents[name] if parents else "")
                said[name] = "accepted"
            except InvalidLayer as error:
                said[name] = f"refused for {error.entry!r}"
        sizes = {name: layer.diff_size for name, layer in layers.items()}
        assert len(set(sizes.values())) <= 1, sizes
        if len(layers) == len(self.stores):
            return layers, said
        self.release(layers)
        return None, said

    def release(self, layers: dict[str, Layer]) -> None:
        for name, layer in layers.items():
            self.stores[name].release(layer)

    def trees(self, layers: dict[str, Layer]) -> dict[str, trees.Snapshot]:
        """What a container on the layer sees, in each."""
        found = {}
        for name, layer in layers.items():
            rw = self.stores[name].create_rw_layer("look", layer.chain_id)
            with rw.mounted() as path:
                found[name] = tree_of(Path(path))
            self.stores[name].release_rw_layer(rw)
        return found

    def assert_same_trees(self, layers: dict[str, Layer]) -> trees.Snapshot:
        """All drivers show the same; returns it."""
        found = self.trees(layers)
        wanted = found.pop("vfs")
        for name, tree in found.items():
            assert differences(tree, wanted) == [], f"{name} does not show what vfs shows"
        return wanted


def tree_of(path: Path) -> trees.Snapshot:
    """All of a tree, but for times of just now, and the root's."""
    root = path.stat()
    top = (root.st_mode, root.st_uid, root.st_gid, "root", b"", read_xattrs(os.fsencode(path)), ())
    return {b"": top} | {
        name: tuple("recent" if at == 3 and time > RECENT_NS else time for at, time in enumerate(seen))
        if isinstance(seen[3], int)
        else seen
        for name, seen in trees.snapshot(path).items()
    }


def differences(found: trees.Snapshot, wanted: trees.Snapshot) -> list[str]:
    """Where two trees differ, a line for each path."""
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
    """Empty stores, open."""
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
