"""Real Docker daemons over our server: all drivers, managed plugins, pulls, restarts. `make engines` runs them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests.docker import daemon
from tests.driver_roots import DRIVERS, btrfs_file_system, mounts_below, why_not
from tests.registry.fake_registry import FakeRegistry

from . import engine
from .served import serving

pytestmark = [pytest.mark.needs_root, pytest.mark.timeout(600)]


@pytest.fixture(params=DRIVERS)
def driver(request):
    if reason := daemon.why_not() or why_not(request.param):
        pytest.skip(reason)
    return request.param


@pytest.fixture
def directory(driver, tmp_path):
    """A directory on a file system that the driver supports."""
    if driver == "btrfs":
        with btrfs_file_system() as path:
            yield path
    else:
        yield tmp_path


def test_a_socket_of_the_host(directory, driver):
    with engine.served_daemon(directory, driver) as (docker, served):
        info = docker.json("info", "--format", "{{json .DriverStatus}}")
        assert ["Driver", driver] in info
        engine.use(docker)
        engine.remove_all(docker)
        assert engine.layers_left(served) == []
        assert docker.errors() == []


def test_a_managed_plugin(directory, driver):
    with engine.managed_daemon(directory, driver) as docker:
        assert docker.text("info", "--format", "{{.Driver}}") == f"layerstore:{driver}"
        engine.use(docker)
        engine.remove_all(docker)
        (home,) = (directory / "data" / "plugins").glob("*/propagated-mount")
        left = [path for path in home.rglob("*") if len(path.name.removesuffix("-init")) == 64]
        assert left == []
        assert docker.errors() == []


def test_pulls(directory, driver):
    """Several images at once, with shared layers."""
    with FakeRegistry() as registry, engine.served_daemon(directory, driver) as (docker, served):
        spec = engine.image()
        for number in range(4):
            own = engine.tars.tar(engine.tars.entry(b"own", b"%d" % number))
            image = engine.ImageSpec([*spec.layers, own])
            registry.add_image("app", image.layers, str(number), config=image.config, layer_type=PLAIN)
        names = [f"{registry.host}/app:{number}" for number in range(4)]
        pulls = [docker.start("pull", name) for name in names]
        for pull in pulls:
            output, _ = pull.communicate(timeout=120)
            assert pull.returncode == 0, output
        for number, name in enumerate(names):
            assert docker.text("run", "--rm", "--network=none", name, "cat", "/own") == str(number)
        assert len(engine.layers_left(served)) == 2 + 4
        engine.remove_all(docker)
        assert engine.layers_left(served) == []


PLAIN = "application/vnd.oci.image.layer.v1.tar"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_another_server_while_a_container_runs(directory, driver, signum):
    address = engine.PLUGINS / f"layerstore-test-{os.getpid()}-{driver}.sock"
    layers = directory / "layers"
    with (
        serving(layers, address, driver=driver) as first,
        daemon.daemon(directory / "data", address.stem, engine.EXPERIMENTAL) as docker,
    ):
        docker("load", stdin=engine.docker_archive(engine.image()))
        docker("run", "--detach", "--name=long", "--network=none", "base:1", "sleep", "1000")
        docker("exec", "long", "sh", "-c", "echo before >/data/before")
        first.stop(signum)
        with serving(layers, address, driver=driver) as second:
            docker("exec", "long", "sh", "-c", "echo after >/data/after")
            assert {"A /data/before", "A /data/after"} < set(docker.lines("diff", "long"))
            docker("commit", "long", "kept:1")
            docker("stop", "--time=0", "long")
            assert mounts_below(layers) == []
            docker("start", "long")
            assert docker.text("exec", "long", "cat", "/data/after") == "after"
            assert docker.text("run", "--rm", "--network=none", "kept:1", "cat", "/data/before") == "before"
            engine.remove_all(docker)
            assert engine.layers_left(second) == []
            assert mounts_below(layers) == []


def test_another_daemon(directory, driver):
    """A container, stopped by the end of the daemon, goes on with the next one."""
    address = engine.PLUGINS / f"layerstore-test-{os.getpid()}-{driver}.sock"
    with serving(directory / "layers", address, driver=driver) as served:
        with daemon.daemon(directory / "data", address.stem, engine.EXPERIMENTAL) as docker:
            docker("load", stdin=engine.docker_archive(engine.image()))
            docker("run", "--detach", "--name=long", "--network=none", "base:1", "sleep", "1000")
            docker("exec", "long", "sh", "-c", "echo x >/data/written")
        assert mounts_below(directory / "layers") == []
        with daemon.daemon(directory / "data", address.stem, engine.EXPERIMENTAL) as docker:
            docker("start", "long")
            assert docker.text("exec", "long", "cat", "/data/written") == "x"
            engine.remove_all(docker)
            assert engine.layers_left(served) == []


def test_a_daemon_that_is_killed(directory, driver):
    """The next daemon ends its containers. No mount is left in the end, and no layer."""
    address = engine.PLUGINS / f"layerstore-test-{os.getpid()}-{driver}.sock"
    state = tempfile.mkdtemp(prefix="layerstore-docker-")  # the paths of sockets are short
    with serving(directory / "layers", address, driver=driver) as served:
        first = daemon.Daemon(directory / "data", address.stem, Path(state), engine.EXPERIMENTAL)
        first("load", stdin=engine.docker_archive(engine.image()))
        first("run", "--detach", "--name=long", "--network=none", "base:1", "sleep", "1000")
        first.kill()
        assert (mounts_below(directory / "layers") != []) == (driver == "overlay2")
        docker = daemon.Daemon(directory / "data", address.stem, Path(state), engine.EXPERIMENTAL)
        try:
            docker("start", "long")
            assert json.loads(docker("inspect", "long"))[0]["State"]["Running"]
            engine.remove_all(docker)
            assert engine.layers_left(served) == []
        finally:
            docker.stop()
            daemon.unmount(directory / "data")
        assert mounts_below(directory / "layers") == []
    shutil.rmtree(state)


def test_without_a_server_the_daemon_does_not_start(tmp_path, driver):
    with (
        pytest.raises(AssertionError, match=r"driver not supported|plugin .* not found"),
        daemon.daemon(tmp_path / "data", "layerstore-nothing", engine.EXPERIMENTAL),
    ):
        pass
