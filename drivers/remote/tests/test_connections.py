"""Connections, options, and paths of a server that are other paths here."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from layerstore_remote import RemoteDriver, ServerUnavailable
from layerstore_remote.claim import Claim, Note
from layerstore_remote.options import RemoteOptions
from loguru import logger
from pydantic import ValidationError

from layerstore_core import DriverContext, IDMapping, IDRange
from layerstore_core.conformance.processes import in_child
from layerstore_core.errors import ConfigError

from .bad_server import BadServer, answer, http

LAYER = "a" * 64


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "root" / "remote"
    home.parent.mkdir()
    Note(home).write(Claim("f" * 64, True, "vfs", "/nowhere"))
    return home


def driver_for(home, server, **options):
    options = {"address": str(server.address), "connect_timeout": 0, "timeout": 20, **options}
    return RemoteDriver(DriverContext(home, logger, RemoteOptions(**options)))


def test_one_connection_serves_many_calls(home, tmp_path):
    with BadServer(tmp_path / "s") as server:
        driver = driver_for(home, server)
        for _ in range(20):
            driver.exists(LAYER)
        assert server.calls.count("Layerstore.Version") == 1
        assert server.calls.count("GraphDriver.Exists") == 21  # once for the mark


def test_threads_have_connections_of_their_own(home, tmp_path):
    """Each of four calls waits until all four are there."""
    together = threading.Barrier(4)

    def meet(file, headers):
        together.wait(30)
        return answer()

    with BadServer(tmp_path / "s", **{"GraphDriver.Put": meet}) as server, ThreadPoolExecutor(4) as pool:
        driver = driver_for(home, server)
        for _ in range(3):
            list(pool.map(driver.put, [LAYER] * 4))
        assert server.calls.count("Layerstore.Version") <= 5


def test_a_forked_child_makes_its_own_connections(home, tmp_path):
    with BadServer(tmp_path / "s") as server:
        driver = driver_for(home, server)
        driver.exists(LAYER)

        def use(report):
            for _ in range(3):
                report(str(driver.exists(LAYER)))

        ended = in_child(use)
        assert (ended.reported, ended.error) == (["True"] * 3, "")
        assert driver.exists(LAYER)
        assert server.calls.count("Layerstore.Version") == 2


def test_an_idle_connection_that_the_server_has_closed(home, tmp_path):
    with BadServer(tmp_path / "s") as server:
        driver = driver_for(home, server)
        driver.create(LAYER, "", {})
        server.drop()
        driver.create(LAYER, "", {})
        assert server.calls.count("GraphDriver.Create") == 2
        assert server.calls.count("Layerstore.Version") == 2


def test_a_call_on_an_old_connection_is_repeated_only_if_that_does_no_harm(home, tmp_path):
    dying = iter([None, answer(Exists=True), answer(Exists=True)])
    with BadServer(tmp_path / "s") as server:
        driver = driver_for(home, server)
        driver.exists(LAYER)
        server.replies["GraphDriver.Exists"] = lambda *_: next(dying)
        assert driver.exists(LAYER)
        server.replies["GraphDriver.Remove"] = None
        with pytest.raises(ServerUnavailable):
            driver.remove(LAYER)
        assert server.calls.count("GraphDriver.Remove") == 1


def test_a_server_that_closes_the_connection_after_each_answer(home, tmp_path):
    class Closing(BadServer):
        def _reply(self, connection, file, method, headers):
            super()._reply(connection, file, method, headers)
            return False

    body = http(b'{"Exists": true}', 200, "Connection: close")
    with Closing(tmp_path / "s", **{"GraphDriver.Exists": body}) as server:
        server.replies = {
            name: reply.replace(b" X\r\n", b" X\r\nConnection: close\r\n") for name, reply in server.replies.items()
        }
        server.replies |= dict.fromkeys(
            ("GraphDriver.Init", "GraphDriver.Remove"), http(b"{}", 200, "Connection: close")
        )
        driver = driver_for(home, server)
        assert driver.exists(LAYER)
        driver.remove(LAYER)


def test_the_path_of_a_socket_may_be_long(home, tmp_path):
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    with BadServer(tmp_path / "s") as server:
        os.rename(server.address, directory / "s")
        driver = driver_for(home, server, address=str(directory / "s"))
        assert driver.exists(LAYER)


@pytest.mark.parametrize("kind", ["missing", "file", "stale"])
def test_nobody_listens(home, tmp_path, kind):
    server = BadServer(tmp_path / "s")
    if kind == "file":
        (tmp_path / "s").touch()
    if kind == "stale":
        with server:
            pass
    with pytest.raises(ServerUnavailable, match=r"no server listens at .*/s \(.*start it.*option address"):
        driver_for(home, server).exists(LAYER)


def test_a_server_that_listens_late_is_waited_for(home, tmp_path):
    server = BadServer(tmp_path / "s")
    timer = threading.Timer(0.3, server.__enter__)
    timer.start()
    assert driver_for(home, server, connect_timeout=30).exists(LAYER)
    timer.join()
    server.__exit__()


def test_ranges_of_ids_are_told(home, tmp_path):
    told = []

    class Noting(BadServer):
        def _reply(self, connection, file, method, headers):
            if method != "GraphDriver.Init":
                return super()._reply(connection, file, method, headers)
            told.append(file.read(int(headers[b"content-length"])))
            connection.sendall(answer())
            return True

    mapping = IDMapping((IDRange(0, 100_000, 65536),), (IDRange(0, 200_000, 65536),))
    with Noting(tmp_path / "s") as server:
        options = RemoteOptions(address=server.address, home="/data/layers")
        RemoteDriver(DriverContext(home, logger, options, mapping)).exists(LAYER)
    (document,) = told
    told = json.loads(document)
    assert told["Home"] == "/data/layers"
    assert told["UIDMaps"] == [{"container_id": 0, "host_id": 100_000, "size": 65536}]
    assert told["GIDMaps"] == [{"container_id": 0, "host_id": 200_000, "size": 65536}]


def test_paths_of_a_managed_plugin_are_translated(home, tmp_path):
    local = tmp_path / "plugins" / "id" / "propagated-mount"
    (local / "layers" / "one").mkdir(parents=True)
    options = ["lowerdir=/data/a:/data/b", "upperdir=/data/c", "workdir=/data/d", "index=off"]
    mounts = [{"Type": "overlay", "Source": "overlay", "Options": options}]
    replies = {"GraphDriver.Get": answer(Dir="/data/layers/one"), "Layerstore.Mounts": answer(Mounts=mounts)}
    with BadServer(tmp_path / "s", **replies) as server:
        driver = driver_for(home, server, server_path="/data", local_path=str(local))
        assert driver.get(LAYER, "") == str(local / "layers" / "one")
        (mount,) = driver.mounts(LAYER, True)
        assert mount.options == (
            f"lowerdir={local}/a:{local}/b",
            f"upperdir={local}/c",
            f"workdir={local}/d",
            "index=off",
        )


def test_capabilities_can_be_given(home, tmp_path):
    said = answer(Capabilities={"ReproducesExactDiffs": True, "MaxDepth": 7, "ParallelApply": True, "Quota": False})
    with BadServer(tmp_path / "s", **{"GraphDriver.Capabilities": said}) as server:
        found = driver_for(home, server).capabilities()
        assert (found.reproduces_exact_diffs, found.max_depth, found.quota) == (True, 7, False)
        assert not found.parallel_apply, "the server cannot wait for parents"
        given = driver_for(home, server, reproduces_exact_diffs=False, max_depth=9, quota=True).capabilities()
        assert (given.reproduces_exact_diffs, given.max_depth, given.quota) == (False, 9, True)
        assert not driver_for(home, server, diffs="store").capabilities().reproduces_exact_diffs


def test_the_store_makes_diffs_if_it_is_told_to(home, tmp_path):
    with BadServer(tmp_path / "s") as server:
        driver = driver_for(home, server, diffs="store")
        assert driver.apply_diff(LAYER, "", None) is None
        assert driver.diff(LAYER, "") is driver.changes(LAYER, "") is driver.diff_size(LAYER, "") is None
        assert server.calls == []


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/run/a.sock", "/run/a.sock"),
        ("unix:///run/a.sock", "/run/a.sock"),
        ("zfs", "/run/docker/plugins/zfs.sock"),
        ("/run//x/./a.sock", "/run/x/a.sock"),
    ],
)
def test_addresses(address, path):
    assert RemoteOptions(address=address).address == path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"address": ""},
        {"address": "run/a.sock"},
        {"address": "/run/../a.sock"},
        {"address": "tcp://localhost:80"},
        {"address": "/a", "timeout": 0},
        {"address": "/a", "connect_timeout": -1},
        {"address": "/a", "diffs": "both"},
        {"address": "/a", "server_path": "/data"},
        {"address": "/a", "server_path": "data", "local_path": "/x"},
        {"address": "/a", "max_depth": 0},
        {"address": "/a", "socket": "/b"},
    ],
)
def test_options_that_make_no_sense(options):
    with pytest.raises(ValidationError):
        RemoteOptions(**options)


def test_a_driver_without_an_address(home):
    with pytest.raises(ConfigError, match=r"--driver-opt address="):
        RemoteDriver(DriverContext(home, logger))
