"""Servers with Docker's methods alone: errors are texts, users of mounts are counted, and layers cannot be listed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from layerstore_remote import OtherHome, ServerError

from layerstore_core.conformance.groups.faults.workload import BASE, check_root, use_store
from layerstore_core.conformance.processes import die, in_child
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.maintenance.check import check_store
from tests.driver_roots import why_not

from .served import SERVER_ROOT, ServedDriver

FILES = ["etc", "etc/hosts"]


@pytest.fixture(params=["vfs", "overlay2"])
def rig(request, farm, tmp_path):
    """A rig for a driver whose server has Docker's methods alone."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    factory = ServedDriver(farm, request.param, docker_only=True, connect_timeout=0)
    with DriverRig("remote", factory, {}, tmp_path / "root") as rig:
        rig.served = request.param
        yield rig
    farm.end_all()


def test_a_store_does_all_it_can(rig, farm):
    reported = []
    root = rig.root / "all"
    with rig.store(root=root) as store:
        use_store(store, reported.append)
        assert store.driver.layer_ids() is None
        assert check_store(store, full=True) == []
    assert len(reported) == 8
    check_root(rig, root, reported, "a run without a fault")
    called = set(farm.calls(root / "remote" / SERVER_ROOT))
    assert {name for name in called if name.startswith("Layerstore.")} == {"Layerstore.Version"}
    assert "GraphDriver.ApplyDiff" in called
    assert "GraphDriver.Changes" not in called


def test_errors_have_their_classes(rig):
    driver, layer, child = rig.driver, rig.layer(BASE), rig.new_id()
    for create in (lambda i, p: driver.create(i, p, {}), lambda i, p: driver.create_read_write(i, p, "", {})):
        with pytest.raises(FileExistsError):
            create(layer, "")
        with pytest.raises(FileNotFoundError):
            create(child, "0" * 64)
    for use in (driver.get, driver.metadata):
        with pytest.raises(FileNotFoundError):
            use(child)
    driver.remove(child)
    driver.put(child)
    with pytest.raises(ServerError, match="no-such-option"):
        driver.create(child, "", {"no-such-option": "1"})
    assert not driver.exists(child)


def test_one_put_unmounts_however_many_users_the_server_counts(rig):
    """Users of processes that have died count there, too."""
    layer = rig.writable(rig.layer(BASE))
    hook = rig.driver.plugins.hook
    for _ in range(3):
        path = hook.get(layer_id=layer, mount_label="")
    Path(path, "written").write_text("kept")
    hook.put(layer_id=layer)
    assert rig.mounts() == []
    with rig.driver.mounted(layer) as path:
        assert Path(path, "written").read_text() == "kept"
    rig.driver.get(layer)
    rig.driver.remove(layer)
    assert rig.mounts() == []


def test_the_mount_of_a_killed_process(rig):
    with rig.store() as store:
        base = store.register(io.BytesIO(BASE))
        store.pin(base)
        store.create_rw_layer("work", base.chain_id)
    rig.close()

    def mount_and_die():
        with rig.store() as store:
            Path(store.get_rw_layer("work").mount(), "written").write_text("before the end")
            die()

    assert in_child(lambda _: mount_and_die()).killed
    with rig.store() as store, store.get_rw_layer("work") as rw:
        assert rig.mounts() == []
        assert [str(change) for change in rw.changes()] == ["A /written"]


def test_a_home_of_another_store_is_not_taken(rig, farm):
    """Its layers cannot be listed, but the mark of all stores is there."""
    with rig.store() as store:
        store.register(io.BytesIO(BASE))
    other = rig.root / "other"
    (other / "remote").mkdir(parents=True)
    address = farm.serve(rig.root / "remote" / SERVER_ROOT, rig.served, docker_only=True)
    config = rig.config(other).with_overrides(drivers={"remote": {"address": address}})
    from layerstore_core import LayerStore

    with LayerStore.open(config) as store, pytest.raises(OtherHome, match="a driver that only Docker's methods"):
        store.register(io.BytesIO(BASE))
