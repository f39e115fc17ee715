"""Changes around a root: it is moved, its permissions are removed, the clock goes back."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.driver_roots import remove_root
from tests.reliability.aftermath import stale_state
from tests.store.layers import BASE, MIDDLE, chain, export, register, tree
from tests.store.test_refused_by_the_system import notes

DAY = 24 * 3600 * 10**9


def test_a_root_that_is_moved(store, store_root, driver):
    """Nothing in the root depends on its path."""
    layers = chain(store, BASE, MIDDLE)
    names = [layer.chain_id for layer in layers]
    store.pin(layers[1])
    rw = store.create_rw_layer("box", names[1], init=lambda path: Path(path, "init").touch())
    with rw.mounted() as path:
        Path(path, "new").write_bytes(b"new")
    store.close()
    moved = store_root.with_name("moved") / "elsewhere"
    moved.parent.mkdir()
    os.rename(store_root, moved)
    try:
        with LayerStore.open(StoreConfig(root=moved, driver=driver, durability="none")) as there:
            assert check_store(there, full=True) == []
            assert [export(there.get(name)) for name in names] == [BASE, MIDDLE]
            box = there.get_rw_layer("box")
            assert [str(change) for change in box.changes()] == ["A /new"]
            there.release_rw_layer(box)
            assert collect_garbage(there) == []
            assert stale_state(there) == []
    finally:
        remove_root(moved)


def test_a_clock_that_goes_back(store, open_store, store_root, monkeypatch):
    """All files in the root have times of tomorrow."""
    layer = register(store, BASE)
    rw = store.create_rw_layer("box", layer.chain_id)
    with rw.mounted() as path:
        Path(path, "tomorrow").write_bytes(b"")
        os.utime(Path(path, "etc/hosts"), ns=(time.time_ns() + DAY,) * 2)
    for where, directories, files in os.walk(store.root / "image"):
        for name in directories + files:
            os.utime(os.path.join(where, name), ns=(time.time_ns() + DAY,) * 2)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86400)
    with rw.mounted() as path:
        Path(path, "bin/sh").write_bytes(b"\x7fELF" * 300)  # the same content, written today
        Path(path, "etc/new").write_bytes(b"today")
    changed = {str(change) for change in rw.changes()}
    assert {"A /tomorrow", "A /etc/new", "C /etc/hosts"} <= changed
    with rw.tar_stream() as stream:
        tar = stream.read()
    committed = register(store, tar, layer)
    other = open_store()
    assert export(other.get(committed.chain_id)) == tar
    assert check_store(other, full=True) == []
    assert collect_garbage(other) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the rights of root: to become another user")
class TestRemovedPermissions:
    @pytest.fixture
    def driver(self):
        return "vfs"

    @pytest.mark.parametrize(
        "where",
        [
            "image/vfs/layerdb/sha256",
            "image/vfs/layerdb/tmp",
            "image/vfs/layerdb/mounts",
            "vfs/dir",
            "layerstore/pins/vfs",
        ],
    )
    def test_permissions_that_are_removed_while_a_store_is_open(self, open_directory, ordinary_user, where):
        """The call that needs the permissions fails and names the path. With the permissions back, all is as before."""
        root = open_directory / "store"
        with ordinary_user(), LayerStore.open(StoreConfig(root=root, driver="vfs", durability="none")) as store:
            base = register(store, BASE)
            store.pin(base)
            store.create_rw_layer("box", base.chain_id).close()
            before = tree(root)
            (root / where).chmod(0o500)
            refused = []
            for use in (
                lambda: store.release(register(store, MIDDLE, base)),
                lambda: store.release_rw_layer(store.create_rw_layer("other", base.chain_id)),
                lambda: store.unpin(base.chain_id),
            ):
                try:
                    use()
                except PermissionError as error:
                    refused.append(error)
            (root / where).chmod(0o755)
            assert refused
            assert all(error.filename or str(root) in notes(error) for error in refused)
            store.pin(base)
            store.cleanup()
            collect_garbage(store)
            assert check_store(store, full=True) == []
            assert tree(root).keys() == before.keys()
