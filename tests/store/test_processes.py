"""Several processes, or several stores in one process, on one root."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from layerstore_core import LayerDoesNotExist, MountDoesNotExist, MountNameConflict
from layerstore_core.maintenance.gc import collect_garbage
from tests.store.layers import BASE, MIDDLE, chain, export, names_of, register, tar_of, tree, warm
from tests.store.other_process import OtherProcess, OtherProcessError


@pytest.fixture
def other(driver, store_root, store):
    """Another process that has the same store open."""
    with OtherProcess(store_root, driver) as process:
        yield process


REGISTER = "import io; layer = store.register(io.BytesIO(bytes.fromhex(tar)), parent); answer = layer.chain_id"


def test_a_layer_that_another_process_references_is_not_deleted(store, other):
    layer = register(store, BASE)
    other.run("handle = store.get(name)", name=layer.chain_id)

    assert store.holders(layer.chain_id) == ["1 open handle(s)"]
    assert store.release(layer) == []
    assert store.holders(layer.chain_id) == ["another process"]
    assert collect_garbage(store) == []
    assert export(store.layers()[layer.chain_id]) == BASE

    assert other.run("answer = [gone.chain_id for gone in store.release(handle)]") == [layer.chain_id]
    assert store.layers() == {}


def test_the_references_of_a_killed_process_end_at_once(store, other):
    layer = register(store, BASE)
    other.run("handle = store.get(name)", name=layer.chain_id)
    store.release(layer)
    other.kill()
    assert [gone.name for gone in collect_garbage(store)] == [layer.chain_id]


def test_the_parent_of_a_registration_in_another_process_is_not_deleted(store, other):
    """A registration references the parent, although no file says so yet."""
    base = register(store, BASE)
    other.start(
        "import os, io\n"
        "reading, writing = os.pipe()\n"
        "def wait(count, entries):\n"
        "    print('\"here\"', flush=True)\n"
        "    input()\n"
        "layer = store.register(io.BytesIO(bytes.fromhex(tar)), name, progress=wait)",
        name=base.chain_id,
        tar=MIDDLE.hex(),
    )
    assert other._process.stdout.readline() == '"here"\n'
    assert store.release(base) == []
    assert collect_garbage(store) == [], "the transaction is not stale, and it references the parent"
    other._process.stdin.write("\n")
    other._process.stdin.flush()
    while other._process.stdout.readline() == '"here"\n':
        other._process.stdin.write("\n")
        other._process.stdin.flush()
    assert set(store.layers()) == set(names_of(BASE, MIDDLE))


def test_changes_by_another_process_are_seen(store, other):
    assert store.layers() == {}
    name = other.run(REGISTER, tar=BASE.hex(), parent="")
    assert set(store.layers()) == {name}
    assert store.chain_ids() == [name]
    with store.get(name) as layer:
        assert export(layer) == BASE

    other.run("box = store.create_rw_layer('box', layer.chain_id)")
    assert store.rw_layers() == ["box"]
    assert store.holders(name) == ["writable layer 'box'", "another process"]
    mount_id = store.mount_id("box")
    with pytest.raises(MountNameConflict):
        store.create_rw_layer("box")

    other.run("store.release(layer); store.release_rw_layer(box)")
    assert (store.layers(), store.rw_layers()) == ({}, [])
    for find in (lambda: store.get(name), lambda: register(store, MIDDLE, name)):
        with pytest.raises(LayerDoesNotExist):
            find()
    with pytest.raises(MountDoesNotExist):
        store.get_rw_layer("box")

    other.run("box = store.create_rw_layer('box')")
    assert store.mount_id("box") != mount_id


def test_a_layer_that_another_process_registered_again_is_the_new_one(store, other):
    """After a deletion and a registration the chain ID is the same, but the driver's layer is not."""
    with register(store, BASE) as layer:
        old = layer.cache_id
    store.rw_layers()
    other.run("store.release(store.get(name))", name=layer.chain_id)
    other.run(REGISTER, tar=BASE.hex(), parent="")
    with store.get(layer.chain_id) as again:
        assert again.cache_id != old
        assert export(again) == BASE
    assert store.layers()[layer.chain_id].cache_id == again._node.record.cache_id

    other.run("store.release(layer)")
    third = register(store, BASE)
    assert other.run("answer = store.get(name).cache_id", name=layer.chain_id) == third.cache_id


def test_two_processes_that_register_the_same_layer_share_one(store, other, store_root):
    warm(store)
    before = tree(store_root)
    base = register(store, BASE)
    for number in range(6):
        tar = tar_of({f"file{number}": b"x" * 3000, "more": bytes([number]) * 5000})
        other.start(REGISTER, tar=tar.hex(), parent=base.chain_id)
        mine = register(store, tar, base)
        assert other.answer() == mine.chain_id
        assert other.run("answer = layer.cache_id") == mine.cache_id
        assert store.release(mine) == []
        assert other.run("answer = len(store.release(layer))") == 1
    store.release(base)
    assert tree(store_root) == before
    assert collect_garbage(store) == []


def test_pins_are_shared_by_all_processes(store, other):
    layer = register(store, BASE)
    store.pin(layer)
    store.release(layer)
    assert other.run("answer = list(store.pins())") == [layer.chain_id]
    assert other.run("answer = store.release(store.get(name))", name=layer.chain_id) == []
    other.run("store.unpin(name)", name=layer.chain_id)
    assert store.pins() == set()
    assert len(collect_garbage(store)) == 1


def test_a_writable_layer_that_another_process_references_stays(store, other):
    rw = store.create_rw_layer("box")
    other.run("box = store.get_rw_layer('box')")
    store.release_rw_layer(rw)
    assert store.rw_layers() == ["box"]
    with pytest.raises(OtherProcessError, match="MountNameConflict"):
        other.run("store.create_rw_layer('box')")
    other.run("store.release_rw_layer(box)")
    assert store.rw_layers() == []


def test_garbage_collection_while_layers_are_registered(store, other):
    """One process registers and releases chains, the other collects all the time: no error, and no layer is left."""
    other.start(
        "from layerstore_core.maintenance.gc import collect_garbage\n"
        "answer = sum(len(collect_garbage(store)) for _ in range(30))"
    )
    for number in range(15):
        layers = chain(store, BASE, MIDDLE, tar_of({f"{number}": b"x"}))
        rw = store.create_rw_layer("box", layers[-1].chain_id)
        assert [export(layer) for layer in layers[:2]] == [BASE, MIDDLE]
        for layer in layers:
            layer.close()
        store.release_rw_layer(rw)
    other.answer()
    collect_garbage(store)
    assert store.chain_ids() == []


def test_two_stores_in_one_process_behave_like_two_processes(open_store, store_root):
    one, other = open_store(), open_store()
    layer = register(one, BASE)
    handle = other.get(layer.chain_id)
    assert one.release(layer) == []
    assert one.holders(layer.chain_id) == ["another process"]
    rw = other.create_rw_layer("box", layer.chain_id)
    assert one.rw_layers() == ["box"]
    assert other.release(handle) == []
    assert len(other.release_rw_layer(rw)) == 1
    assert (one.layers(), other.layers()) == ({}, {})


@pytest.mark.parametrize("stores", [1, 4])
def test_threads_register_and_release_the_same_layers(open_store, store_root, stores):
    """Sixteen threads register chains with common parents, and export and release them."""
    opened = [open_store() for _ in range(stores)]
    warm(opened[0])
    before = tree(store_root)

    def work(number):
        store = opened[number % stores]
        for turn in range(2):
            base, middle, own = chain(store, BASE, MIDDLE, tar_of({f"{(number + turn) % 5}": b"x" * 100}))
            with store.get(own.chain_id) as again:
                assert export(again) == export(own)
            rw = store.create_rw_layer(f"box{number}", own.chain_id)
            assert len(store.layers()) >= 3
            for layer in (base, middle, own):
                store.release(layer)
            store.release_rw_layer(rw)
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))
    for store in opened:
        assert store.layers() == {}
    collect_garbage(opened[0])
    assert tree(store_root) == before


def test_one_of_many_threads_creates_a_writable_layer(store):
    def make(number):
        try:
            return store.create_rw_layer("box")
        except MountNameConflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [rw for rw in pool.map(make, range(16)) if rw is not None]
    assert len(made) == 1


class TestMounts:
    """Mounts, which all processes that use a layer share."""

    @pytest.fixture
    def driver(self):
        return "MountingDriver"

    @pytest.fixture
    def store(self, store_root):
        from tests.store.drivers import MountingDriver, open_with

        store_root.mkdir()
        with open_with(MountingDriver, store_root) as store:
            store.create_rw_layer("box").close()
            yield store

    @pytest.fixture
    def log(self, store_root):
        path = store_root / "mount-log"
        path.write_text("")
        return lambda: [line.split()[0] for line in path.read_text().splitlines()]

    def test_the_last_process_that_uses_a_mount_unmounts(self, store, other, log):
        rw = store.get_rw_layer("box")
        path = rw.mount()
        assert other.run("box = store.get_rw_layer('box'); answer = box.mount()") == path
        assert log() == ["get"]
        rw.unmount()
        assert log() == ["get"]
        other.run("box.unmount()")
        assert log() == ["get", "put"]

    def test_a_stale_mount_is_unmounted_when_a_store_is_opened(self, store, other, log, store_root):
        from tests.store.drivers import MountingDriver, open_with

        other.run("box = store.get_rw_layer('box'); box.mount()")
        assert store.driver.stale_mounts() == []
        other.kill()
        assert store.driver.stale_mounts() == [store.mount_id("box")]
        with open_with(MountingDriver, store_root):
            assert log() == ["get", "put"]
        assert store.driver.stale_mounts() == []

    def test_a_mount_of_a_killed_process_stays_for_its_other_users(self, store, other, log):
        rw = store.get_rw_layer("box")
        other.run("box = store.get_rw_layer('box'); box.mount()")
        rw.mount()
        other.kill()
        store.cleanup()
        assert log() == ["get"]
        rw.unmount()
        assert log() == ["get", "put"]

    def test_a_kept_mount_can_be_unmounted_by_another_process(self, store, other, log):
        other.run("store.get_rw_layer('box').mount(keep=True)")
        other.kill()
        store.cleanup()
        assert log() == ["get"]
        rw = store.get_rw_layer("box")
        with rw.mounted():
            pass
        assert log() == ["get"]
        rw.unmount()
        assert log() == ["get", "put"]

    def test_a_kept_mount_stays_as_long_as_a_process_uses_it(self, store, other, log):
        rw = store.get_rw_layer("box")
        rw.mount(keep=True)
        other.run("box = store.get_rw_layer('box'); box.mount()")
        rw.unmount()
        assert log() == ["get"]
        other.run("box.unmount()")
        assert log() == ["get", "put"]

    def test_deleting_a_writable_layer_unmounts_it(self, store, other, log, store_root):
        rw = store.get_rw_layer("box")
        rw.mount()
        rw.mount(keep=True)
        store.release_rw_layer(rw)
        assert log() == ["get", "put"]
        assert list((store_root / "layerstore" / "mounts" / "test").iterdir()) == []


class TestPlainFiles:
    @pytest.fixture
    def driver(self):
        return "vfs"

    def test_a_copied_root_is_another_store(self, open_store, store_root, tmp_path):
        store = open_store()
        layer = register(store, BASE)
        shutil.copytree(store_root, tmp_path / "copy", symlinks=True)
        copy = open_store(root=tmp_path / "copy")
        assert len(copy.release(copy.get(layer.chain_id))) == 1
        assert export(layer) == BASE
