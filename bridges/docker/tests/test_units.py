"""The units for systemd."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from layerstore_docker_plugin.command import cli

UNITS = Path(__file__).parents[1] / "systemd"


def read(name):
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read(UNITS / name)
    return parser


def test_the_service_has_options_that_the_program_takes():
    service = read("layerstore-graphdriver.service")["Service"]
    (setting,) = shlex.split(service["Environment"])
    name, _, words = setting.partition("=")
    assert service["ExecStart"].split()[1:] == [f"${name}"]
    context = cli.make_context("layerstore-graphdriver", shlex.split(words))
    assert context.params["driver"] == "overlay2"
    assert Path(service["ExecStart"].split()[0]).name == "layerstore-graphdriver"


def test_the_socket_is_where_the_daemon_looks():
    socket = read("layerstore-graphdriver.socket")["Socket"]
    default = next(option.default for option in cli.params if option.name == "address")
    assert socket["ListenStream"] == str(default)
    assert default.parent == Path("/run/docker/plugins")


def test_the_service_has_the_mounts_of_the_host():
    """A mount namespace of its own would hide mounts from the daemon."""
    service = read("layerstore-graphdriver.service")["Service"]
    own = (
        "Private",
        "Protect",
        "ReadOnly",
        "ReadWrite",
        "Inaccessible",
        "Bind",
        "Temporary",
        "Root",
        "Mount",
        "Dynamic",
    )
    assert [name for name in service if name.startswith(own)] == []


def test_systemd_takes_the_units(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/usr/local/bin/layerstore-graphdriver", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    units = sorted(tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    own = [line for line in done.stderr.splitlines() if "layerstore-graphdriver" in line]
    assert own == []
