"""A store's home at a server: claimed once, recognized later, and never shared."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from layerstore_remote import OtherHome, ServerError
from layerstore_remote.claim import COMMON_MARK

from layerstore_core import ChainID, LayerStore, StoreConfig
from layerstore_core.errors import BadRecord, DriverNotSupported, LayerStoreError
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from tests.driver_roots import why_not
from tests.store.layers import BASE


@pytest.fixture
def place(tmp_path, farm):
    """A function that serves a driver on a root below the test's directory, and returns the address."""
    yield lambda name="files", driver="vfs", **more: farm.serve(tmp_path / name, driver, **more)
    farm.end_all()


@pytest.fixture
def open_store(tmp_path):
    """A function that opens a store by its name, with a server's address."""

    def open_store(address, name="store", *, read_only=False, **options):
        settings = {"address": address, "connect_timeout": 0, **options}
        config = StoreConfig(root=tmp_path / name, driver="remote", drivers={"remote": settings}, durability="none")
        return LayerStore.open(config, read_only=read_only)

    return open_store


@dataclass
class Registered:
    chain_id: ChainID
    cache_id: str


def register(store):
    layer = store.register(io.BytesIO(BASE))
    store.pin(layer)
    return Registered(layer.chain_id, layer.cache_id)


def note_of(tmp_path, name="store"):
    return tmp_path / name / "remote" / "server.json"


def test_a_store_s_note_and_its_marks(place, open_store, tmp_path, farm):
    with open_store(place()) as store:
        assert not note_of(tmp_path).exists()
        assert store.driver.layer_ids() == []
        layer = register(store)
        assert store.driver.layer_ids() == [layer.cache_id]
    note = json.loads(note_of(tmp_path).read_text())
    assert (note["driver"], note["directory"], note["complete"]) == ("vfs", str(tmp_path / "files" / "vfs"), True)
    assert sorted(os.listdir(tmp_path / "files" / "vfs" / "dir")) == sorted([layer.cache_id, note["mark"], COMMON_MARK])


def test_a_store_that_only_reads_claims_nothing(place, open_store, tmp_path):
    address = place()
    with open_store(address) as store:
        assert check_store(store, full=True) == []
    assert not note_of(tmp_path).exists()
    assert not (tmp_path / "files" / "vfs" / "dir").exists()


def test_a_server_with_another_driver(place, open_store, tmp_path, farm):
    with open_store(place()) as store:
        register(store)
    farm.kill(tmp_path / "files")
    address = place(driver="minimal")
    with open_store(address) as store:
        for use in (store.driver.layer_ids, lambda: store.register(io.BytesIO(BASE + bytes(1024)))):
            with pytest.raises(OtherHome, match=r"has driver minimal.*are with driver vfs in .*files/vfs.*address"):
                use()
    assert os.listdir(tmp_path / "files" / "minimal") == [] if (tmp_path / "files" / "minimal").exists() else True


def test_a_server_with_another_root(place, open_store, tmp_path):
    with open_store(place()) as store:
        layer = register(store)
    with open_store(place("other")) as store, pytest.raises(OtherHome, match="without the mark of this store"):
        store.driver.exists(layer.cache_id)


def test_a_server_that_is_exchanged_while_a_store_is_open(place, open_store, tmp_path, farm):
    address = place()
    with open_store(address) as store:
        layer = register(store)
        farm.kill(tmp_path / "files")
        (tmp_path / "files").rename(tmp_path / "moved")
        assert place() == address
        with pytest.raises(OtherHome, match="without the mark"):
            store.driver.exists(layer.cache_id)
        assert not (tmp_path / "files" / "vfs" / "dir").exists()


def test_two_stores_do_not_share_a_home(place, open_store, tmp_path):
    address = place()
    with open_store(address) as store:
        layer = register(store)
    with open_store(address, "second") as second:
        for use in (lambda: register(second), second.driver.layer_ids, lambda: second.driver.remove(layer.cache_id)):
            with pytest.raises(OtherHome, match=r"has layers already.*Start a server with an empty root"):
                use()
    with open_store(address) as store:
        assert check_store(store, full=True) == []


def test_a_home_with_layers_of_a_daemon_is_not_taken(place, open_store, tmp_path):
    from .bad_server import request

    address = place()
    request(address, "GraphDriver.Create", ID="d" * 64)
    with open_store(address) as store, pytest.raises(OtherHome, match="has layers already"):
        register(store)
    assert sorted(os.listdir(tmp_path / "files" / "vfs" / "dir")) == ["d" * 64]


def test_a_store_whose_note_is_lost(place, open_store, tmp_path):
    address = place()
    with open_store(address) as store:
        layer = register(store)
    note_of(tmp_path).unlink()
    with open_store(address) as store:
        for use in (lambda: check_store(store), lambda: store.register(io.BytesIO(BASE + bytes(1024)))):
            with pytest.raises(OtherHome, match="adopt"):
                use()
    with open_store(address, adopt=True) as store:
        assert store.driver.exists(layer.cache_id)
        assert [finding.code for finding in check_store(store, full=True)] == ["stray-in-driver"]  # the former mark
    with open_store(address) as store:
        collect_garbage(store)
        assert check_store(store, full=True) == []


def test_a_home_that_was_moved_to_another_driver(place, open_store, tmp_path, farm):
    """Both drivers keep plain directories, so the layers can be moved by hand."""
    with open_store(place()) as store:
        layer = register(store)
    farm.kill(tmp_path / "files")
    (tmp_path / "files" / "vfs" / "dir").rename(tmp_path / "files" / "minimal")
    address = place(driver="minimal")
    with open_store(address, adopt=True) as store:
        with layer_stream(store, layer) as stream:
            assert stream.read() == BASE
        store.driver.create("c" * 64, "", {})
    assert json.loads(note_of(tmp_path).read_text())["driver"] == "minimal"
    with open_store(address) as store, layer_stream(store, layer) as stream:
        assert stream.read() == BASE


def layer_stream(store, layer):
    return store.get(layer.chain_id).tar_stream()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "5", '{"format": 1}', '{"format": 1, "mark": 5, "complete": true}', "[" * 5000, '{"format": 2}'],
)
def test_a_damaged_note(place, open_store, tmp_path, text):
    address = place()
    with open_store(address) as store:
        register(store)
    note_of(tmp_path).write_text(text)
    with open_store(address) as store, pytest.raises(BadRecord, match=r"server\.json: it (is damaged|was written)"):
        store.driver.layer_ids()


@pytest.mark.parametrize("call", range(3))
@pytest.mark.parametrize("stage", ["before", "after"])
def test_a_claim_that_was_interrupted_is_finished(place, open_store, tmp_path, farm, stage, call):
    """The server dies at the first, second or third Create: of a mark of the store, of all stores, and of a layer."""
    address = place(die_at=call, stage=stage, method="GraphDriver.Create")
    with pytest.raises(LayerStoreError), open_store(address) as store:
        register(store)
    farm.kill(tmp_path / "files")  # it may still be dying
    assert place() == address
    with open_store(address) as store:
        layer = register(store)
        assert store.driver.layer_ids() == [layer.cache_id]
        assert check_store(store, full=True) == []


def test_probing_leaves_nothing(place, open_store, tmp_path):
    from layerstore_core.driver.probe import probe

    address = place()
    config = StoreConfig(root=tmp_path / "store", driver="remote", drivers={"remote": {"address": address}})
    assert probe("remote", config).works
    assert not (tmp_path / "store").exists()
    gone = StoreConfig(
        root=tmp_path / "store", driver="remote", drivers={"remote": {"address": "/gone", "connect_timeout": 0}}
    )
    assert "no server listens at /gone" in probe("remote", gone).reason
    assert "needs the option address" in probe("remote", tmp_path / "store").reason


def test_a_new_store_is_not_made_without_its_server(open_store, tmp_path):
    with pytest.raises(DriverNotSupported, match="no server listens at"), open_store(str(tmp_path / "gone")):
        pass
    assert not (tmp_path / "store").exists()


@pytest.mark.needs_kernel
@pytest.mark.skipif(os.geteuid() != 0, reason="needs the rights of root: a mount name space")
def test_mounts_that_are_not_propagated_are_found_out(open_store, tmp_path):
    """Otherwise a user writes into the empty directory below the mount, and the layer never sees it."""
    if reason := why_not("overlay2"):
        pytest.skip(reason)
    address = tmp_path / "sock"
    command = [sys.executable, "-m", "layerstore_docker_plugin", "--root", tmp_path / "files", "--driver", "overlay2"]
    isolated = ["unshare", "--mount", "--propagation", "private", *command, "--address", address]
    with subprocess.Popen(isolated, stderr=subprocess.DEVNULL) as server:
        try:
            with open_store(str(address), connect_timeout=60) as store:
                layer = store.register(io.BytesIO(BASE))
                rw = store.create_rw_layer("work", layer.chain_id)
                with pytest.raises(ServerError, match="propagated to this process"):
                    rw.mount()
        finally:
            server.terminate()
