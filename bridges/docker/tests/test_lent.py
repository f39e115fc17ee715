"""The driver between calls: when settings change, and when a call ends too late."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from layerstore_docker_plugin import lent as module
from layerstore_docker_plugin.lent import InitRequest, LentDriver

from layerstore_core import LayerStoreError, StoreConfig
from layerstore_core.errors import RootInUse
from tests.driver_roots import why_not

ONE = "1" * 64


@pytest.fixture
def lent(tmp_path):
    def settings(options, uids, gids):
        depth = int(options.get("depth", 125))
        return StoreConfig(root=tmp_path / "root", driver="vfs", max_depth=depth, uid_map=uids, gid_map=gids)

    one = LentDriver(settings)
    yield one
    one.close()


def test_init_that_changes_settings_waits_for_other_calls(lent):
    with ThreadPoolExecutor(2) as pool:
        with lent.driver() as before:
            init = pool.submit(lent.init, InitRequest(options={"depth": "7"}), restarted=True)
            with pytest.raises(TimeoutError):
                init.result(0.2)
            later = pool.submit(lent.get, ONE, "")  # waits for Init, and then for nothing
            assert before.exists(ONE) is False
        init.result(30)
        with pytest.raises(FileNotFoundError):
            later.result(30)
    with lent.driver() as after:
        assert after is not before


def test_init_gives_up_if_calls_do_not_end(lent, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with lent.driver():
        with pytest.raises(RootInUse, match="while other calls are running"):
            lent.init(InitRequest(options={"depth": "7"}), restarted=True)
        lent.init(InitRequest(home="/docker"), restarted=True)  # the same settings: nothing to wait for
    assert lent.init_request.home == "/docker"


def test_init_with_settings_that_fail_leaves_the_driver_as_it_was(lent):
    with pytest.raises(LayerStoreError):
        lent.init(InitRequest(options={"depth": "-7"}), restarted=True)
    with lent.driver() as driver:
        driver.create(ONE, "", {})
    lent.get(ONE, "")
    assert lent.mounted_layers == 1


def test_no_call_after_the_end(lent):
    lent.close()
    with pytest.raises(LayerStoreError, match="stopping"), lent.driver():
        pass


def test_two_calls_for_one_layer_wait_for_each_other(lent):
    inside = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with lent.changing(ONE):
            call = pool.submit(lent.remove, ONE)
            with pytest.raises(TimeoutError):
                call.result(0.2)
            with lent.changing("2" * 64):  # another layer
                inside.set()
        call.result(30)
    assert inside.is_set()


def test_cleanup_unmounts_what_it_can(lent, monkeypatch):
    layers = [digit * 64 for digit in "123"]
    for layer in layers:
        with lent.driver() as driver:
            driver.create(layer, "", {})
        lent.get(layer, "")
    with lent.driver() as driver:
        end = driver.end_kept_mount

        def refuse(layer_id):
            if layer_id == layers[1]:
                raise OSError(16, "busy", layer_id)
            return end(layer_id)

        monkeypatch.setattr(driver, "end_kept_mount", refuse)
    with pytest.raises(OSError, match="busy"):
        lent.cleanup()
    with lent.driver() as driver:
        assert driver.kept_mounts() == [layers[1]]


@pytest.mark.needs_root
def test_users_of_containers_can_enter_the_directories_above_their_layers(tmp_path):
    """The daemon says whose layers they are when the driver has made its home already."""
    if reason := why_not("overlay2"):
        pytest.skip(reason)

    def settings(options, uids, gids):
        return StoreConfig(root=tmp_path / "root", driver="overlay2", uid_map=uids, gid_map=gids)

    lent = LentDriver(settings)
    ranges = ("0:100000:65536",)
    lent.init(InitRequest(uid_map=ranges, gid_map=ranges), restarted=True)
    with lent.driver() as driver:
        driver.create(ONE, "", {})
    path = lent.get(ONE, "")
    assert os.stat(path).st_uid == 100000
    for directory in (tmp_path / "root", tmp_path / "root" / "overlay2", tmp_path / "root" / "overlay2" / ONE):
        status = directory.stat()
        assert status.st_mode & 0o001 or (status.st_mode & 0o010 and status.st_gid == 100000), directory
    lent.put(ONE)
    lent.close()
