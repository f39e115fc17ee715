"""A server that is killed in a call: the error is clear, no layer is lost, and gc finds what was left half done."""

from __future__ import annotations

import io

import pytest
from layerstore_remote import ServerUnavailable

from layerstore_core.conformance.groups.faults.workload import BASE, check_root, use_store
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.errors import LayerStoreError
from tests.driver_roots import why_not

from .conftest import WHOLE
from .served import SERVER_ROOT, ServedDriver

#: The methods that a store calls.
METHODS = [
    "Plugin.Activate",
    "Layerstore.Version",
    "GraphDriver.Init",
    "GraphDriver.Capabilities",
    "GraphDriver.Exists",
    "GraphDriver.Create",
    "GraphDriver.CreateReadWrite",
    "GraphDriver.ApplyDiff",
    "GraphDriver.Get",
    "GraphDriver.Put",
    "GraphDriver.Changes",
    "GraphDriver.DiffSize",
    "GraphDriver.Diff",
    "GraphDriver.Remove",
    "Layerstore.LayerIDs",
    "Layerstore.ParentOf",
]
STAGES = ("before", "after")
#: Each method at one stage, or at both.
CASES = [(method, stage) for at, method in enumerate(METHODS) for stage in (STAGES if WHOLE else [STAGES[at % 2]])]


@pytest.fixture
def rig(request, farm, tmp_path):
    """A rig for a driver that is served; the parameter names the driver."""
    driver = getattr(request, "param", "vfs")
    if reason := why_not(driver):
        pytest.skip(reason)
    with DriverRig("remote", ServedDriver(farm, driver, connect_timeout=0), {}, tmp_path / "root") as rig:
        rig.served = driver
        yield rig
    farm.end_all()


def use_and_kill(rig, farm, root, number, stage, method=""):
    """Use a store whose server is killed at a call. Return whether it was, after the store was checked."""
    server = root / "remote" / SERVER_ROOT
    server.mkdir(parents=True)
    farm.serve(server, rig.served, die_at=number, stage=stage, method=method)
    reported = []
    failed = None
    try:
        with rig.store(root=root) as store:
            use_store(store, reported.append)
    except (OSError, LayerStoreError) as error:
        failed = error
    farm.kill(server)
    check_root(rig, root, reported, f"the server was killed {stage} call {number} of {method or 'all'}")
    return failed


@pytest.mark.parametrize(("method", "stage"), CASES)
def test_killed_at_the_first_call_of_each_method(rig, farm, stage, method):
    failed = use_and_kill(rig, farm, rig.root / "one", 0, stage, method)
    assert isinstance(failed, ServerUnavailable)
    assert str(rig.root) not in str(failed), "the message names a file, not the server"


if WHOLE:  # takes minutes

    @pytest.mark.parametrize("rig", ["vfs", "overlay2"], indirect=True)
    @pytest.mark.parametrize("stage", ["before", "after"])
    def test_killed_at_every_call(rig, farm, stage):
        number = 0
        while use_and_kill(rig, farm, rig.root / f"at-{number}", number, stage) is not None:
            number += 1
        assert number > 30


def test_a_server_that_is_started_again_between_calls(rig, farm):
    """An open store goes on, without an error."""
    with rig.store() as store:
        layer = store.register(io.BytesIO(BASE))
        server = rig.root / "remote" / SERVER_ROOT
        for _ in range(2):
            farm.kill(server)
            farm.serve(server, rig.served)
            assert store.driver.exists(layer.cache_id)
            with layer.tar_stream() as stream:
                assert stream.read() == BASE
        store.release(layer)


@pytest.mark.parametrize("rig", ["vfs", "overlay2"], indirect=True)
def test_a_mount_outlives_the_server(rig, farm):
    with rig.store() as store:
        rw = store.create_rw_layer("work", store.register(io.BytesIO(BASE)).chain_id)
        path = rw.mount()
        server = rig.root / "remote" / SERVER_ROOT
        farm.kill(server)
        with open(f"{path}/written", "w") as file:
            file.write("while nobody listens")
        with pytest.raises(ServerUnavailable):
            rw.unmount()
        farm.serve(server, rig.served)
    # The next store finds the mount, by the note of it, and unmounts it.
    with rig.store() as store, store.get_rw_layer("work") as rw:
        assert [str(change) for change in rw.changes()] == ["A /written"]
    assert rig.mounts() == []
