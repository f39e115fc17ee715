"""A full disk, a read-only root, a user without rights: the error of the system is raised, and nothing half-written."""

from __future__ import annotations

import errno
import io
import os
import subprocess
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.maintenance.check import check_store
from tests.driver_roots import why_not
from tests.store.layers import BASE, MIDDLE, export, register, tar_of, tree, warm


@pytest.fixture
def driver():
    """Only the driver vfs works with a root in which it cannot try out the file system."""
    return "vfs"


IN_MEMORY = pytest.mark.parametrize(
    "driver",
    [
        pytest.param(name, marks=pytest.mark.skipif(bool(why_not(name)), reason=f"{name}: {why_not(name)}"))
        for name in ("vfs", "overlay2")
    ],
)


def notes(error):
    return " ".join(getattr(error, "__notes__", []))


@IN_MEMORY
@pytest.mark.needs_root
def test_a_full_disk_leaves_the_store_as_it_was(driver, tmpfs):
    """The disk is full at each step in turn; existing layers can still be read and deleted."""
    root = tmpfs("size=640k") / "store"
    filler = root.parent / "filler"
    refused = []
    with LayerStore.open(StoreConfig(root=root, driver=driver)) as store:
        base = register(store, BASE)
        warm(store)
        before = tree(root)
        for pages in range(0, 40, 2):
            filler.write_bytes(b"")
            free = os.statvfs(root).f_bavail
            with open(filler, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, (free - pages) * 4096))
            try:
                layer = register(store, MIDDLE, base)
            except OSError as error:
                refused.append(error)
            else:
                assert export(layer) == MIDDLE
                assert len(store.release(layer)) == 1
            try:
                store.release_rw_layer(store.create_rw_layer("box", base.chain_id, init=lambda path: None))
            except OSError as error:
                refused.append(error)
            assert export(base) == BASE
            assert tree(root) == before, pages
        assert {error.errno for error in refused} == {errno.ENOSPC}
        assert [error for error in refused if "while " not in notes(error)] == []
        assert [notes(error) for error in refused if not error.filename and str(root) not in notes(error)] == []
        assert len(refused) > 3
        assert check_store(store, full=True) == []

        filler.write_bytes(b"")
        with open(filler, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.statvfs(root).f_bavail * 4096)
        assert len(store.release(base)) == 1


@IN_MEMORY
@pytest.mark.needs_root
def test_layers_can_be_read_and_deleted_on_a_disk_without_free_inodes(driver, tmpfs):
    """Existing layers can be read and deleted, and no writable layer is mounted read-only without an error."""
    root = tmpfs("nr_inodes=400") / "store"
    with LayerStore.open(StoreConfig(root=root, driver=driver)) as store:
        base = register(store, BASE)
        top = register(store, MIDDLE, base)
        rw = store.create_rw_layer("box", base.chain_id)
        fill = root.parent / "filler"
        fill.mkdir()
        for number in range(os.statvfs(root).f_favail):
            (fill / str(number)).touch()
        with pytest.raises(OSError, match="No space left"):
            (fill / "one more").touch()
        assert export(top) == MIDDLE
        assert check_store(store, full=True) == []
        refused = []
        for number in range(30):
            try:
                with rw.mounted() as path:
                    Path(path, "new").touch()
                    break
            except OSError as error:
                refused.append(error)
                (fill / str(number)).unlink()
        assert {error.errno for error in refused} <= {errno.ENOSPC}
        for number in range(30, 60):
            (fill / str(number)).unlink()
        with rw.mounted() as path:
            assert Path(path, "new").exists()
        assert len(store.release(top)) == 1


@IN_MEMORY
@pytest.mark.needs_root
def test_a_layer_larger_than_the_disk_leaves_nothing(driver, tmpfs):
    root = tmpfs("size=2m") / "store"
    with LayerStore.open(StoreConfig(root=root, driver=driver)) as store:
        warm(store)
        before = tree(root)
        with pytest.raises(OSError, match="No space left") as caught:
            register(store, tar_of({"small": b"x", "big": os.urandom(4 << 20)}))
        assert "'big'" in notes(caught.value)
        assert tree(root) == before


@pytest.fixture
def read_only(driver, tmpfs):
    """Return a root on a read-only mount, with two layers and a writable layer, and the chain IDs of the layers."""
    mount = tmpfs("size=8m")
    with LayerStore.open(StoreConfig(root=mount / "store", driver=driver)) as store:
        base = register(store, BASE)
        names = base.chain_id, register(store, MIDDLE, base).chain_id
        store.create_rw_layer("box", names[1])
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    return mount / "store", names


@pytest.mark.needs_root
def test_a_read_only_root_can_be_read(driver, read_only):
    root, (base, top) = read_only
    with LayerStore.open(StoreConfig(root=root, driver=driver)) as store:
        assert set(store.layers()) == {base, top}
        layer = store.get(top)
        assert export(layer) == MIDDLE
        assert store.rw_layers() == ["box"]
        assert store.load_problems == []
        assert store.holders(base)
        assert check_store(store, full=True) == []
        assert store.release(layer) == []


@pytest.mark.needs_root
def test_writing_to_a_read_only_root_is_refused(driver, read_only):
    root, (base, _top) = read_only
    before = tree(root)
    with LayerStore.open(StoreConfig(root=root, driver=driver)) as store:
        layer = store.get(base)
        for use in (
            lambda: store.register(io.BytesIO(BASE), base),
            lambda: store.create_rw_layer("new"),
            lambda: store.pin(layer),
        ):
            with pytest.raises(OSError, match="Read-only file system") as caught:
                use()
            assert caught.value.filename
    assert tree(root) == before


@pytest.mark.needs_root
def test_a_root_of_another_user_is_refused(driver, open_directory, ordinary_user):
    root = open_directory / "store"
    with LayerStore.open(StoreConfig(root=root, driver=driver)) as store:
        register(store, BASE)
    with ordinary_user(), pytest.raises(PermissionError, match=str(root)):
        LayerStore.open(StoreConfig(root=root, driver=driver))


@pytest.mark.needs_root
def test_another_user_can_list_layers_without_access_to_the_state_of_layerstore(driver, open_directory, ordinary_user):
    root = open_directory / "store"
    with LayerStore.open(StoreConfig(root=root, driver=driver)) as store:
        layer = register(store, BASE)
    root.chmod(0o755)
    for where, _, _ in os.walk(root / "image"):
        os.chmod(where, 0o755)
    with ordinary_user(), LayerStore.open(StoreConfig(root=root), create=False) as store:
        assert (store.driver_name, store.chain_ids()) == (driver, [layer.chain_id])


@pytest.mark.needs_root
def test_a_root_in_a_directory_without_write_permission_is_refused(driver, open_directory, ordinary_user):
    open_directory.chmod(0o755)
    with ordinary_user(), pytest.raises(PermissionError, match=str(open_directory)):
        LayerStore.open(StoreConfig(root=open_directory / "store", driver=driver))
    assert os.listdir(open_directory) == []


def test_an_ordinary_user_can_use_a_store_with_vfs(open_directory, ordinary_user):
    """The owners of files are lost, but exports give the same bytes."""
    with ordinary_user(), LayerStore.open(StoreConfig(root=open_directory / "store", driver="vfs")) as store:
        base = register(store, BASE)
        tar = MIDDLE.replace(b"0000000\0", b"0001750\0")
        with pytest.raises(Exception, match="checksum"):
            register(store, tar, base)
        layer = register(store, MIDDLE, base)
        assert export(layer) == MIDDLE
        rw = store.create_rw_layer("box", layer.chain_id, init=lambda path: None)
        with rw.mounted() as path:
            Path(path, "new").write_bytes(b"new")
        assert [str(change) for change in rw.changes()] == ["A /new"]
        with rw.tar_stream() as stream:
            committed = store.register(stream, layer.chain_id)
        for handle in (base, layer, committed):
            store.release(handle)
        store.release_rw_layer(rw)
        assert store.layers() == {}


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_are_those_of_docker_with_any_umask(umask, tmp_path):
    if umask == 0o777 and os.geteuid():
        pytest.skip("with this umask only root can open the directories that he has created")
    before = os.umask(umask)
    try:
        with LayerStore.open(StoreConfig(root=tmp_path / "store", driver="vfs")) as store:
            layer = store.register(io.BytesIO(BASE), descriptor={"size": 1})
            store.register(io.BytesIO(MIDDLE), layer.chain_id)
            store.create_rw_layer("box", layer.chain_id, init=lambda path: None)
            with store.driver.mounted(layer.cache_id) as path:
                modes = {name: Path(path, name).stat().st_mode & 0o7777 for name in (".", "etc", "etc/hosts")}
    finally:
        os.umask(before)
    assert modes == {".": 0o755, "etc": 0o755, "etc/hosts": 0o644}

    found = {}
    for where, directories, files in os.walk(store.context.db.path):
        for name in directories + files:
            status = os.lstat(os.path.join(where, name))
            found[os.path.relpath(os.path.join(where, name), store.context.db.path)] = status.st_mode & 0o7777
    assert store.context.db.path.stat().st_mode & 0o7777 == 0o700
    assert found.pop("sha256") == found.pop("mounts") == found.pop("tmp") == 0o755
    records = {path: mode for path, mode in found.items() if path.count("/") == 1}
    assert {mode for path, mode in records.items() if path.startswith("sha256/")} == {0o700}
    assert records["mounts/box"] == 0o755
    assert {mode for path, mode in found.items() if path.count("/") == 2} == {0o644}
    assert len(found) == 3 + 5 + 5 + 3
