"""The directory of a managed plugin. `real_dockerd.py` has daemons with such plugins."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from layerstore_docker_plugin import managed
from layerstore_docker_plugin.command import cli

from .served import Client, wait_for


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A directory that the command has made."""
    target = tmp_path_factory.mktemp("managed") / "plugin"
    made = CliRunner().invoke(cli, ["plugin", str(target), "--driver", "vfs", "--driver-opt", "a=b c"])
    assert made.exit_code == 0, made.output
    assert "layerstore-driver-vfs" in made.output
    assert [path.name for path in target.parent.iterdir()] == ["plugin"]
    return target


def test_the_configuration(plugin):
    config = json.loads((plugin / "config.json").read_text())
    assert config["interface"] == {"types": ["docker.graphdriver/1.0"], "socket": "layerstore.sock"}
    assert config["args"]["value"] == ["--driver", "vfs", "--driver-opt", "a=b c"]
    assert config["propagatedMount"] == "/layers"
    assert "CAP_SYS_ADMIN" in config["linux"]["capabilities"]
    for mount in config["mounts"]:
        assert mount["options"] == ["rbind", "ro"]
        assert (plugin / "rootfs" / mount["destination"].lstrip("/")).is_dir()
    assert any(config["entrypoint"][0].startswith(f"{mount['source']}/") for mount in config["mounts"])


def test_the_copied_packages_are_enough(plugin, tmp_path):
    """The entry point of the plugin works with what it has, and a driver that is not asked for is not in it."""
    config = json.loads((plugin / "config.json").read_text())
    packages = plugin / "rootfs" / "layerstore"
    words = list(config["entrypoint"])
    words[words.index("--root") + 1] = str(tmp_path / "layers")
    words[words.index("--address") + 1] = str(address := tmp_path / "sock")
    environment = {"PYTHONPATH": str(packages), "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        [*words, "--driver", "vfs"], env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(address, process)
        client = Client(address)
        client.call("Init", Home="/layers/name:tag")
        client.call("Create", ID="1" * 64)
        assert client.call("Get", ID="1" * 64)["Dir"].startswith(str(tmp_path / "layers"))
        client.close()
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    script = "import layerstore_core, layerstore_vfs, sys; print(layerstore_core.__file__, layerstore_vfs.__file__)"
    python = [words[0], "-s", "-c", script]
    found = subprocess.run(python, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(path.startswith(f"{packages}/") for path in found.stdout.split())
    refused = subprocess.run(
        [*words, "--driver", "overlay2"], env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "no driver 'overlay2' is installed (installed: vfs)" in refused.stderr


def test_modules_are_compiled(plugin):
    """The plugin cannot write where they are: without this, each start would compile them."""
    package = plugin / "rootfs" / "layerstore" / "layerstore_docker_plugin"
    tag = sys.implementation.cache_tag
    assert (package / "__pycache__" / f"server.{tag}.pyc").is_file()


class TestRefused:
    def test_an_unknown_driver(self, tmp_path):
        told = CliRunner().invoke(cli, ["plugin", str(tmp_path / "new"), "--driver", "nothing"])
        assert "no driver 'nothing' is installed" in str(told.exception)
        assert list(tmp_path.iterdir()) == []

    def test_a_directory_that_exists(self, tmp_path):
        (tmp_path / "mine").write_text("mine")
        for name in (".", "mine"):
            told = CliRunner().invoke(cli, ["plugin", str(tmp_path / name), "--driver", "vfs"])
            assert "exists already" in str(told.exception)
        assert os.listdir(tmp_path) == ["mine"]

    def test_nothing_is_left_of_a_directory_that_could_not_be_made(self, tmp_path, monkeypatch):
        def fail(*_):
            raise OSError(28, "No space left on device", "/here")

        monkeypatch.setattr(managed, "copy_installed", fail)
        told = CliRunner().invoke(cli, ["plugin", str(tmp_path / "new"), "--driver", "vfs"])
        assert told.exception.__notes__ == [f"while making {tmp_path / 'new'}"]
        assert list(tmp_path.iterdir()) == []
