"""Drivers agree on changes: the same edits give the same list of changes, and a tar that makes the same tree."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings

from layerstore_core import Layer, compare_trees, copy_tree, pack_tree, remove_tree
from tests import tars, trees
from tests.across.chains import CHAINS
from tests.across.conftest import Stores, differences, tree_of
from tests.store.layers import register


def assert_same_changes(stores: Stores, layers: dict[str, Layer], todo: list[tuple[str, int, int]]) -> None:
    """Do some steps in a writable layer of each store, and compare trees, changes and tars."""
    changes, seen, applied = {}, {}, {}
    for name, store in stores.stores.items():
        rw = store.create_rw_layer("box", layers[name].chain_id)
        try:
            with rw.mounted() as path:
                change(Path(path), todo)
                seen[name] = tree_of(Path(path))
                # Both while the layer is mounted and afterwards.
                changes[f"{name}, mounted"] = [str(one) for one in rw.changes()]
            changes[name] = [str(one) for one in rw.changes()]
            with rw.tar_stream() as stream:
                tar = stream.read()
            assert rw.size() == sum_of_sizes(store, rw)
        finally:
            store.release_rw_layer(rw)
        # Each driver's tar is registered with each driver.
        for other, other_store in stores.stores.items():
            layer = register(other_store, tar, layers[other])
            applied[f"the tar of {name} in {other}"] = stores.trees({other: layer})[other]
            other_store.release(layer)
    wanted = changes["vfs"]
    assert changes == dict.fromkeys(changes, wanted)
    for where, tree in seen.items():
        assert differences(tree, seen["vfs"]) == [], where
    # If only a directory's time differs, that is no change.
    for where, tree in applied.items():
        assert differences(without_directory_times(tree), without_directory_times(seen["vfs"])) == [], where


def without_directory_times(tree: trees.Snapshot) -> trees.Snapshot:
    return {
        path: (*what[:3], None, *what[4:]) if stat.S_ISDIR(cast("int", what[0])) else what
        for path, what in tree.items()
    }


def sum_of_sizes(store, rw):
    """Return the size of a writable layer, counted from its changes."""
    with rw.mounted() as path:
        found = {}
        for one in rw.changes():
            if one.kind.value != "D":
                status = os.lstat(os.fsencode(path) + one.path)
                if stat.S_ISREG(status.st_mode):
                    found[status.st_ino] = status.st_size
        return sum(found.values())


def change(root: Path, todo: list[tuple[str, int, int]]) -> None:
    """Do the steps of `tests.trees.change`. Move directories as `mv` does if the file system cannot rename them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", move)
        trees.change(root, todo)


_rename = os.rename


def move(source: bytes, target: bytes) -> None:
    try:
        _rename(source, target)
    except OSError as error:
        # overlayfs does not rename directories of parent layers.
        if error.errno != errno.EXDEV or target.startswith(source + b"/"):
            raise
        if os.path.lexists(target):
            os.rmdir(target)
        status = os.lstat(source)
        os.mkdir(target)
        copy_tree(source, target)
        remove_tree(source)
        assert stat.S_ISDIR(status.st_mode)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=15)
@given(tree=trees.trees(), todo=trees.steps())
def test_changes_of_any_steps_on_any_tree(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory, tree: trees.Tree, todo: list[tuple[str, int, int]]
) -> None:
    # overlayfs copies up only one of a file's hard links, and does not change the others
    # (`drivers/overlay/README.md`).
    single = {path: node for path, node in tree.items() if node.type != "hard link"}
    root = trees.build(tmp_path_factory.mktemp("trees") / "tree", single)
    assert compare_trees(root, root) == []
    layers = stores.register(b"".join(pack_tree(root)))
    try:
        assert_same_changes(stores, layers, todo)
    finally:
        stores.release(layers)


@pytest.mark.parametrize("name", CHAINS)
def test_changes_of_steps_on_a_difficult_chain(stores: Stores, name: str) -> None:
    layers = None
    for entries in CHAINS[name]():
        layers = stores.register(tars.tar(*entries), layers)
    assert layers is not None
    todo = [("create", 0, 0), ("chmod", 1, 0), ("mkdir", 0, 0), ("unlink", 3, 0), ("xattr", 2, 0), ("rename", 4, 1)]
    if name != "hard links":
        todo += [("write", 5, 0), ("rewrite", 0, 0), ("swap", 0, 2), ("link", 1, 0)]
    assert_same_changes(stores, layers, todo)


def test_changes_of_a_directory_that_is_created_again(stores: Stores) -> None:
    """overlayfs marks the directory as opaque. The other drivers compare it name by name."""
    layers = stores.register(tars.tar(tars.directory(b"d"), tars.entry(b"d/a", b"1"), tars.entry(b"d/b", b"2")))
    for name, store in stores.stores.items():
        rw = store.create_rw_layer("box", layers[name].chain_id)
        with rw.mounted() as path:
            remove_tree(os.fsencode(f"{path}/d"))
            os.mkdir(f"{path}/d", 0o755)
            Path(path, "d/a").write_bytes(b"1")
            os.utime(f"{path}/d/a", (0, 0))
            Path(path, "d/c").write_bytes(b"3")
        assert [str(one) for one in rw.changes()] == ["C /d", "D /d/b", "A /d/c"], name
        with rw.tar_stream() as stream:
            layer = store.register(stream, layers[name].chain_id)
        assert set(stores.trees({name: layer})[name]) == {b"", b"d", b"d/a", b"d/c"}
