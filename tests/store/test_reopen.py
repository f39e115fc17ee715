"""Opening a store again, also after its root was moved."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, register


def test_layers_and_writable_layers_are_found_again(open_store):
    """moby's TestStoreRestore."""
    store = open_store()
    base, middle, top = chain(store, BASE, MIDDLE, TOP)
    rw = store.create_rw_layer("box", top.chain_id, init=lambda path: Path(path, "init").write_bytes(b"init"))
    with rw.mounted() as path:
        Path(path, "written").write_bytes(b"written")
    mount_id = store.mount_id("box")
    facts = [(layer.chain_id, layer.diff_id, layer.size, layer.cache_id) for layer in (base, middle, top)]
    store.close()

    again = open_store()
    layers = [again.get(chain_id) for chain_id, *_ in facts]
    assert [(layer.chain_id, layer.diff_id, layer.size, layer.cache_id) for layer in layers] == facts
    assert [export(layer) for layer in layers] == [BASE, MIDDLE, TOP]
    assert layers[2].parent.chain_id == facts[1][0]
    assert again.rw_layers() == ["box"]
    assert again.mount_id("box") == mount_id
    box = again.get_rw_layer("box")
    assert [str(change) for change in box.changes()] == ["A /written"]
    for layer in layers:
        assert again.release(layer) == []
    assert len(again.release_rw_layer(box)) == 3


def test_opening_and_reading_create_no_records(open_store, store_root):
    store = open_store()
    made = {
        os.path.relpath(os.path.join(where, name), store_root)
        for where, _, files in os.walk(store_root)
        for name in files
    }
    assert made <= {"layerstore/locks", f"layerstore/drivers/{store.driver_name}"}
    reading = open_store()
    assert (reading.layers(), reading.rw_layers(), reading.chain_ids(), reading.pins()) == ({}, [], [], set())


def test_a_missing_root_is_created(driver, store_root):
    with LayerStore.open(root=store_root, driver=driver) as store:
        assert store.root == store_root
        assert store.driver_name == driver
        assert store.config.sources["root"] == "argument"


def test_a_moved_root_is_the_same_store(open_store, store_root, driver):
    store = open_store()
    base, top = chain(store, BASE, MIDDLE)
    store.create_rw_layer("box", top.chain_id)
    store.close()
    moved = store_root.with_name("moved")
    os.rename(store_root, moved)
    try:
        with LayerStore.open(StoreConfig(root=moved, driver=driver)) as store:
            assert [export(store.get(layer.chain_id)) for layer in (base, top)] == [BASE, MIDDLE]
            with store.get_rw_layer("box").mounted() as path:
                assert path.startswith(str(moved))
                assert Path(path, "opt/tool").is_file()
    finally:
        os.rename(moved, store_root)


def test_an_empty_directory_in_place_of_a_record_blocks_no_layer(open_store):
    """moby 44909: an empty directory has the name of the record of a new layer, or writable layer."""
    store = open_store()
    layer = register(store, BASE)
    where = store.context.db.layer_path(layer.chain_id)
    store.release(layer)
    store.close()
    where.mkdir()
    box = where.parent.parent / "mounts" / "box"
    box.mkdir(parents=True)

    store = open_store()
    assert {problem.path for problem in store.load_problems} == {str(where / "diff"), str(box / "mount-id")}
    assert export(register(store, BASE)) == BASE
    with store.create_rw_layer("box").mounted() as path:
        assert os.listdir(path) == []


def test_a_root_that_is_a_file_is_refused(store_root, driver):
    store_root.parent.mkdir(exist_ok=True)
    store_root.write_bytes(b"")
    with pytest.raises(OSError, match=str(store_root)):
        LayerStore.open(StoreConfig(root=store_root, driver=driver))
    store_root.unlink()
