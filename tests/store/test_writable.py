"""Writable layers: creating, writing, comparing, committing, mounting, deleting."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from layerstore_core import (
    ConfigError,
    InvalidMountName,
    LayerDoesNotExist,
    LayerNotRetained,
    MountDoesNotExist,
    MountNameConflict,
)
from tests import tars
from tests.store.layers import BASE, MIDDLE, chain, export, layer_db, register, tar_of, tree, warm


def changed(rw):
    return [str(change) for change in rw.changes()]


def test_changes_are_reported_and_committed(store):
    """moby's TestMountAndRegister."""
    base = register(store, BASE)
    rw = store.create_rw_layer("box", base.chain_id)
    with rw.mounted() as path:
        Path(path, "etc/hosts").write_text("10.0.0.1 elsewhere\n")
        Path(path, "new").write_bytes(b"new")
        Path(path, "bin/sh").unlink()
    assert changed(rw) == ["C /bin", "D /bin/sh", "C /etc", "C /etc/hosts", "A /new"]
    assert rw.size() == len("10.0.0.1 elsewhere\n") + 3

    with rw.tar_stream() as stream:
        layer = store.register(stream, base.chain_id)
    again = store.create_rw_layer("again", layer.chain_id)
    with again.mounted() as path:
        assert Path(path, "etc/hosts").read_text() == "10.0.0.1 elsewhere\n"
        assert Path(path, "new").read_bytes() == b"new"
        assert os.listdir(f"{path}/bin") == []
    assert changed(again) == []


def test_init_runs_once_and_its_files_are_no_changes(store):
    """moby's TestMountInit: init writes into a layer below the writable layer, so that only later changes count."""
    base = register(store, tar_of({"initial": b"base", "kept": b"kept"}))
    calls = []

    def init(path):
        calls.append(path)
        Path(path, "initial").write_bytes(b"from init")
        Path(path, "extra").write_bytes(b"extra")

    rw = store.create_rw_layer("box", base.chain_id, init=init)
    assert len(calls) == 1
    assert changed(rw) == []
    with rw.mounted() as path:
        assert Path(path, "initial").read_bytes() == b"from init"
        assert Path(path, "kept").read_bytes() == b"kept"
        Path(path, "extra").write_bytes(b"more than extra")
    assert changed(rw) == ["C /extra"]
    assert rw.size() == len("more than extra")
    assert len(calls) == 1


def test_applying_a_tar_to_a_writable_layer(store, tmp_path):
    """moby's TestMountApply."""
    base = register(store, BASE)
    rw = store.create_rw_layer("box", base.chain_id)
    tar = tar_of({"applied": b"applied", "bin/.wh.sh": b""})
    assert rw.apply_diff(io.BytesIO(tar)) == len("applied")
    (tmp_path / "more.tar").write_bytes(tar_of({"more": b"more"}))
    rw.apply_diff(tmp_path / "more.tar")
    with rw.mounted() as path:
        assert sorted(os.listdir(path)) == ["applied", "bin", "etc", "more"]
        assert os.listdir(f"{path}/bin") == []


def test_the_diff_of_a_writable_layer_is_reproducible(store):
    rw = store.create_rw_layer("box")
    with rw.mounted() as path:
        for name in ("b", "a", "c/d"):
            Path(path, name).parent.mkdir(exist_ok=True)
            Path(path, name).write_text(name)
            os.utime(Path(path, name), ns=(0, 1))
        for directory in ("c", "."):
            os.utime(Path(path, directory), ns=(0, 1))
    with rw.tar_stream() as one, rw.tar_stream() as other:
        assert one.read() == other.read()


def test_a_writable_layer_without_a_parent_is_empty(store, store_root):
    warm(store)
    before = tree(store_root)
    rw = store.create_rw_layer("box")
    assert rw.parent is None
    assert rw.name == "box"
    with rw.mounted() as path:
        assert os.path.isabs(path)
        assert os.listdir(path) == []
    assert store.release_rw_layer(rw) == []
    assert tree(store_root) == before


def test_the_record_has_docker_s_format(store):
    base = register(store, BASE)
    with_init = store.create_rw_layer("with-init", base.chain_id, init=lambda path: None)
    store.create_rw_layer("plain")
    mounts = layer_db(store) / "mounts"
    mount_id = store.mount_id("with-init")
    assert re.fullmatch("[0-9a-f]{64}", mount_id)
    assert {path.name: path.read_text() for path in (mounts / "with-init").iterdir()} == {
        "mount-id": mount_id,
        "init-id": f"{mount_id}-init",
        "parent": base.chain_id,
    }
    assert [path.name for path in (mounts / "plain").iterdir()] == ["mount-id"]
    assert with_init.parent.chain_id == base.chain_id
    assert with_init.metadata()["ID"]


def test_a_writable_layer_keeps_its_parent(store):
    base, top = chain(store, BASE, MIDDLE)
    rw = store.create_rw_layer("box", top.chain_id)
    assert store.release(base) == store.release(top) == []
    assert store.holders(top.chain_id) == ["writable layer 'box'"]
    assert [gone.chain_id for gone in store.release_rw_layer(rw)] == [top.chain_id, base.chain_id]
    assert store.layers() == {}


def test_releasing_the_last_handle_deletes_a_writable_layer(store):
    first = store.create_rw_layer("box")
    second = store.get_rw_layer("box")
    assert store.release_rw_layer(first) == []
    assert store.rw_layers() == ["box"]
    store.release_rw_layer(second)
    assert store.rw_layers() == []
    for find in (store.get_rw_layer, store.mount_id):
        with pytest.raises(MountDoesNotExist, match="'box'"):
            find("box")


def test_a_released_handle_cannot_be_used(store):
    rw, _other = store.create_rw_layer("box"), store.get_rw_layer("box")
    store.release_rw_layer(rw)
    for use in (
        lambda: store.release_rw_layer(rw),
        lambda: rw.parent,
        rw.mount,
        rw.unmount,
        rw.changes,
        rw.size,
        rw.tar_stream,
        rw.metadata,
        lambda: rw.apply_diff(io.BytesIO(BASE)),
        lambda: rw.mounted().__enter__(),
    ):
        with pytest.raises(LayerNotRetained, match="box"):
            use()
    assert rw.name == "box"
    assert "released" in repr(rw)
    assert store.rw_layers() == ["box"]


def test_closing_a_handle_deletes_nothing(open_store):
    store = open_store()
    with store.create_rw_layer("box") as rw:
        pass
    rw.close()
    assert store.rw_layers() == ["box"]
    store.close()
    assert open_store().rw_layers() == ["box"]


def test_a_handle_of_another_store_cannot_be_released(open_store):
    one, other = open_store(), open_store()
    rw = one.create_rw_layer("box")
    with pytest.raises(LayerNotRetained, match="another store"):
        other.release_rw_layer(rw)
    assert one.rw_layers() == ["box"]
    one.release_rw_layer(rw)


def test_a_taken_name_is_a_conflict(store, store_root):
    store.create_rw_layer("box")
    before = tree(store_root)
    with pytest.raises(MountNameConflict, match="'box'"):
        store.create_rw_layer("box")
    assert tree(store_root) == before


def test_an_unknown_parent_is_refused_and_leaves_nothing(store, store_root):
    warm(store)
    before = tree(store_root)
    with pytest.raises(LayerDoesNotExist):
        store.create_rw_layer("box", "sha256:" + "0" * 64)
    assert tree(store_root) == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b", "n" * 256, "é" * 128])
def test_a_name_that_no_file_can_have_is_refused(store, store_root, name):
    before = tree(store_root)
    for use in (store.create_rw_layer, store.get_rw_layer, store.mount_id):
        with pytest.raises(InvalidMountName, match="cannot name a writable layer"):
            use(name)
    assert tree(store_root) == before


@pytest.mark.parametrize("name", ["a", "-", "...", "n" * 255, "é" * 127, "white space\n", "\udcff"])
def test_any_name_that_a_file_can_have_is_accepted(open_store, name):
    open_store().create_rw_layer(name).close()
    again = open_store()
    assert again.rw_layers() == [name]
    again.release_rw_layer(again.get_rw_layer(name))
    assert again.rw_layers() == []


def test_an_unknown_storage_option_is_named_and_leaves_nothing(store, store_root):
    base = register(store, BASE)
    warm(store)
    before = tree(store_root)
    with pytest.raises(ConfigError, match="colour"):
        store.create_rw_layer("box", base.chain_id, storage_opt={"colour": "red"}, init=lambda path: None)
    assert tree(store_root) == before
    assert store.holders(base.chain_id) == ["1 open handle(s)"]


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt(), RuntimeError("init")])
def test_an_init_that_fails_leaves_nothing(store, store_root, error):
    base = register(store, BASE)
    warm(store)
    before = tree(store_root)

    def init(path):
        Path(path, "half").write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        store.create_rw_layer("box", base.chain_id, init=init)
    assert tree(store_root) == before
    assert store.rw_layers() == []
    assert len(store.release(base)) == 1


def test_a_damaged_tar_is_not_applied_to_a_writable_layer(store):
    from layerstore_core import InvalidLayer

    rw = store.create_rw_layer("box")
    with pytest.raises(InvalidLayer):
        rw.apply_diff(io.BytesIO(BASE[:700]))
    with pytest.raises(InvalidLayer):
        rw.apply_diff(io.BytesIO(tars.tar(tars.entry(b"../out", b""))))


def test_mounts_are_counted(store):
    rw = store.create_rw_layer("box", register(store, BASE).chain_id)
    paths = {rw.mount(), store.get_rw_layer("box").mount(), rw.mount()}
    assert len(paths) == 1
    mounted = Path(paths.pop())
    for _ in range(2):
        rw.unmount()
        assert (mounted / "etc/hosts").is_file()
    rw.unmount()
    rw.unmount()  # unmounting once more does nothing
    assert not store.driver.is_used(store.mount_id("box"))


def test_deleting_a_mounted_layer_unmounts_it(store, store_root):
    from tests.driver_roots import mounts_below

    rw = store.create_rw_layer("box", register(store, BASE).chain_id)
    rw.mount()
    rw.mount()
    store.release_rw_layer(rw)
    assert mounts_below(store_root) == []
    assert list((store_root / "layerstore" / "mounts" / store.driver_name).iterdir()) == []


def test_closing_the_store_unmounts(open_store, store_root):
    from tests.driver_roots import mounts_below

    store = open_store()
    rw = store.create_rw_layer("box", register(store, BASE).chain_id)
    rw.mount()
    store.close()
    assert mounts_below(store_root) == []
    assert list((store_root / "layerstore" / "mounts" / store.driver_name).iterdir()) == []


def test_a_kept_mount_outlives_the_store(open_store):
    store = open_store()
    rw = store.create_rw_layer("box", register(store, BASE).chain_id)
    path = Path(rw.mount(keep=True))
    store.close()
    assert (path / "etc/hosts").is_file()

    again = open_store()  # opening a store does not take the mount as stale
    assert (path / "etc/hosts").is_file()
    assert again.driver.stale_mounts() == []
    rw = again.get_rw_layer("box")
    with rw.mounted() as inner:
        assert inner == str(path)
    assert (path / "etc/hosts").is_file()
    rw.unmount()
    assert list((again.root / "layerstore" / "mounts" / again.driver_name).iterdir()) == []
    rw.unmount()


def test_commits_of_two_writable_layers_are_independent(store):
    base = register(store, BASE)
    layers = []
    for name in ("one", "two"):
        with store.create_rw_layer(name, base.chain_id) as rw:
            with rw.mounted() as path:
                Path(path, "name").write_text(name)
            with rw.tar_stream() as stream:
                layers.append(store.register(stream, base.chain_id))
    assert layers[0].chain_id != layers[1].chain_id
    assert b"one" in export(layers[0])
    assert store.rw_layers() == ["one", "two"]
