"""A driver without a store: who may open it, and what keeps stores and servers apart."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from layerstore_core import (
    ConfigError,
    DriverNotFound,
    LayerStore,
    LayerStoreError,
    LayerStream,
    Snapshots,
    StoreConfig,
    hookimpl,
)
from layerstore_core.driver import registry
from layerstore_core.errors import RootInUse
from layerstore_core.sdk import BoundDriver, open_driver
from tests.store.drivers import SmallestDriver
from tests.store.layers import BASE, register

ONE = "1" * 64


@pytest.fixture
def config(tmp_path):
    return StoreConfig(root=tmp_path / "root", driver="vfs")


class MountingDriver(SmallestDriver):
    """A driver that notes its mounts in files."""

    @hookimpl
    def get(self, layer_id: str) -> str:
        (self.home / f"{layer_id}.mounted").touch(exist_ok=False)
        return str(self.home / layer_id)

    @hookimpl
    def put(self, layer_id: str) -> None:
        (self.home / f"{layer_id}.mounted").unlink(missing_ok=True)


@pytest.fixture
def mounting(monkeypatch, config):
    monkeypatch.setattr(registry, "load_driver", lambda name: MountingDriver)
    return config


def refuse(config, error, message):
    with pytest.raises(error, match=message), open_driver(config):
        pass


def test_a_driver_keeps_layers_without_a_store(config):
    with open_driver(config) as driver:
        assert isinstance(driver, BoundDriver)
        assert (driver.name, driver.home) == ("vfs", config.root / "vfs")
        driver.create(ONE, "", {})
        driver.apply_diff(ONE, "", LayerStream.over(io.BytesIO(BASE)))
    with open_driver(config) as driver:
        with driver.mounted(ONE) as path, open(f"{path}/etc/hosts") as hosts:
            assert hosts.read() == "127.0.0.1 localhost\n"
        driver.remove(ONE)
        assert not driver.exists(ONE)


def test_options_are_checked(config):
    with (
        pytest.raises(ConfigError, match="nonsense"),
        open_driver(config.with_overrides(drivers={"vfs": {"nonsense": "1"}})),
    ):
        pass


def test_an_unknown_driver(config):
    refuse(config.with_overrides(driver="nothing"), DriverNotFound, "nothing")
    assert not config.root.exists()


def test_two_at_once_are_refused(config):
    with open_driver(config):
        refuse(config, RootInUse, r"another process serves the layers of driver vfs in .*root")
    with open_driver(config):
        pass


def test_another_process_is_refused(config):
    script = (
        "import sys\nfrom layerstore_core import StoreConfig\nfrom layerstore_core.sdk import open_driver\n"
        "with open_driver(StoreConfig(root=sys.argv[1], driver='vfs')):\n    print('open', flush=True)\n    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, config.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        refuse(config, RootInUse, "another process")
        other.kill()
    with open_driver(config):  # its locks have ended with it
        pass


def test_a_store_may_not_change_layers_of_another_program(config):
    with open_driver(config) as driver:
        driver.create(ONE, "", {})
    with pytest.raises(RootInUse, match=r"belong to another program.*remove .*lent/vfs"):
        LayerStore.open(config)
    with LayerStore.open(config, read_only=True) as store:
        assert store.chain_ids() == []
    (config.root / "layerstore" / "lent" / "vfs").unlink()
    LayerStore.open(config).close()


def test_a_store_with_another_driver_may_share_the_root(config):
    with open_driver(config):
        pass
    other = config.with_overrides(driver="minimal")
    with LayerStore.open(other) as store:
        register(store, BASE)
    with open_driver(config):
        pass


def test_layers_of_a_store_are_not_lent(config):
    with LayerStore.open(config) as store:
        register(store, BASE)
    refuse(config, RootInUse, r"has a store's layers of driver vfs, whose records are in .*layerdb")
    with LayerStore.open(config) as store:
        assert len(store.chain_ids()) == 1


def test_a_store_that_is_open_and_empty(config):
    """Later it has layers. Its gc would take those of the other program for strays."""
    with LayerStore.open(config):
        refuse(config, RootInUse, r"a store with driver vfs is open in .*root")
    with open_driver(config):
        pass


def test_stores_that_only_read_prevent_nothing(config):
    with LayerStore.open(config):
        pass
    with LayerStore.open(config, read_only=True), open_driver(config):
        pass


def test_snapshots_of_an_engine_are_not_lent(config):
    with LayerStore.open(config) as store, Snapshots(store) as snapshots:
        snapshots.prepare("one")
    refuse(config, RootInUse, r"has an engine's snapshots with driver vfs")


def test_the_root_of_a_docker_daemon_is_refused(config):
    (config.root / "volumes").mkdir(parents=True)
    (config.root / "volumes" / "metadata.db").touch()
    refuse(config, RootInUse, r"data root of a Docker daemon")
    assert [path.name for path in config.root.iterdir()] == ["volumes"]


def test_mounts_end_with_the_block_unless_kept(mounting):
    home = mounting.root / "vfs"
    with open_driver(mounting) as driver:
        for layer in ("kept", "counted"):
            driver.create(layer, "", {})
        driver.get("kept", keep=True)
        driver.get("counted")
        assert sorted(path.name for path in home.glob("*.mounted")) == ["counted.mounted", "kept.mounted"]
    assert [path.name for path in home.glob("*.mounted")] == ["kept.mounted"]
    with open_driver(mounting) as driver:
        assert driver.end_kept_mount("kept")
    assert not list(home.glob("*.mounted"))


def test_mounts_of_dead_processes_are_unmounted(mounting):
    home = mounting.root / "vfs"
    with open_driver(mounting) as driver:
        driver.create("stale", "", {})
    notes = mounting.root / "layerstore" / "mounts" / "vfs"
    notes.mkdir(parents=True)
    (notes / "stale").touch()  # as a killed process leaves it
    (home / "stale.mounted").touch()
    with open_driver(mounting) as driver:
        assert driver.stale_mounts() == []
    assert not list(home.glob("*.mounted"))


def test_a_mount_that_cannot_end_prevents_nothing(mounting, monkeypatch):
    @hookimpl
    def refuse(self, layer_id):
        raise LayerStoreError("busy")

    monkeypatch.setattr(MountingDriver, "put", refuse)
    notes = mounting.root / "layerstore" / "mounts" / "vfs"
    notes.mkdir(parents=True)
    (notes / "stale").touch()
    with open_driver(mounting) as driver:
        assert driver.stale_mounts() == ["stale"]
