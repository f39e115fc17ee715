"""The command line: its help, its errors, and systemd's units."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from layerstore_containerd.command import command, default_address

from layerstore_core import __version__

from .client import PATIENCE, Client, running

TOP = Path(__file__).parents[3]


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "layerstore_containerd", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, **environment},
    )


def test_help_names_each_option_and_has_examples() -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    for option in command.params:
        assert max(option.opts, key=len) in text
    assert "Examples:" in text
    assert "[proxy_plugins.layerstore]" in text


def test_examples_of_the_help_are_right() -> None:
    _, _, text = (command.help or "").partition("Examples:")
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("layerstore-snapshotter ")]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line.partition(">")[0])
        command.make_context(words[0], words[1:])  # it parses the words, and does nothing else


def test_version_is_that_of_the_core_and_needs_no_grpc() -> None:
    code = """
import sys
from layerstore_containerd.command import command
command(["--version"], standalone_mode=False)
print("grpc" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.split()[1:] == [__version__, "False"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--driver-opt", "size"], "KEY=VALUE"),
        (["--metrics", "x"], "[HOST:]PORT"),
        (["--metrics", "localhost:70000"], "[HOST:]PORT"),
        (["--metrics", "::1:80"], "brackets"),
        (["--print-unit", "timer"], "service"),
        (["word"], "word"),
    ],
)
def test_wrong_command_line_is_explained(words: list[str], message: str) -> None:
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        (["--driver", "none"], {}, "none"),
        ([], {"LAYERSTORE_MAX_DEPTH": "x"}, "max_depth"),
        (["--driver", "vfs", "--driver-opt", "x=y"], {}, "x"),
        (["--config", "/none.toml"], {}, "/none.toml"),
    ],
    ids=["driver", "setting", "option", "config"],
)
def test_error_is_one_line_and_leaves_nothing(
    directory: Path, words: list[str], environment: dict[str, str], message: str
) -> None:
    done = run("--root", str(directory / "root"), "--address", str(directory / "s.sock"), *words, **environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("layerstore-snapshotter: ")
    assert list(directory.glob("*.sock")) == []


def test_default_address_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_address() == Path("/run/layerstore/snapshotter.sock")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert default_address() == Path("/run/user/7/layerstore/snapshotter.sock")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_address() == Path("/run/user/1000/layerstore/snapshotter.sock")


def test_logs_name_calls_and_refusals(directory: Path) -> None:
    with (
        running(directory / "root", directory / "s.sock", "-vv", "--log-json") as server,
        server.client() as client,
    ):
        client.prepare("the key")
        assert client.names() == ["the key"]
        assert server.stop() == 0
        records = [json.loads(line)["record"] for line in server.log.read_text().splitlines()]
    messages = [record["message"] for record in records]
    assert any(message.startswith("Prepare key 'the key': 0.") for message in messages)
    assert "List: 1 snapshots" in messages
    assert messages[-1] == "stopped"


def test_units_name_the_installed_program() -> None:
    for kind in ("service", "socket"):
        text = CliRunner().invoke(command, ["--print-unit", kind]).output
        unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
        unit.optionxform = str  # type: ignore[assignment]
        unit.read_string(text)
        assert "@" not in text
        assert (TOP / unit["Unit"]["Documentation"].partition("/main/")[2]).is_file()
        if kind == "service":
            assert os.access(unit["Service"]["ExecStart"].split('"')[1], os.X_OK)
            # The server ends when running calls have ended, for which other processes may work.
            assert unit["Service"]["KillMode"] == "mixed"
            # A view of mounts of its own would hide the trees that a driver mounts from containerd.
            assert not [name for name in unit["Service"] if name.startswith(("Private", "Protect", "ReadOnly"))]
        else:
            assert unit["Socket"]["ListenStream"] == "/run/layerstore/snapshotter.sock"


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (package systemd)"
)
def test_systemd_takes_the_units(directory: Path) -> None:
    for kind in ("service", "socket"):
        (directory / f"layerstore-snapshotter.{kind}").write_text(
            CliRunner().invoke(command, ["--print-unit", kind]).output
        )
    names = [str(path) for path in directory.iterdir()]
    done = subprocess.run(
        ["systemd-analyze", "verify", *names], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert "layerstore" not in done.stderr, done.stderr


def test_store_can_be_used_by_the_command_line_at_the_same_time(directory: Path) -> None:
    """What it registers and collects, the snapshots do not notice; and what they are, it shows."""
    root = directory / "root"
    tree = directory / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    subprocess.run(["tar", "-cf", str(directory / "layer.tar"), "-C", str(tree), "."], check=True)

    def layerstore(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "layerstore_core", "--root", str(root), "--driver", "vfs", *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout.strip()

    with running(root, directory / "s.sock") as server, server.client() as client:
        make(client)
        chain = layerstore("register", str(directory / "layer.tar"))
        with pytest.raises(Exception, match="ALREADY_EXISTS"):
            client.prepare("extract", "", {"containerd.io/snapshot.ref": chain})
        layerstore("gc")
        layerstore("check")
        layerstore("rm", chain, code=1)  # a snapshot needs it
        layerstore("gc")
        (info,) = client.list(f'labels."containerd.io/snapshot.ref"=={chain}')
        (mount,) = client.view("v", info.name)
        assert Path(mount.source, "file").read_text() == "x"
        client.remove("v")
        client.remove(info.name)
        layerstore("rm", chain)
        layerstore("check")
        assert client.names() == ["base", "active"]
        server.kill()
    layerstore("gc")
    layerstore("check")
    with running(root, directory / "s.sock") as server, server.client() as client:
        assert client.names() == ["base", "active"]


def make(client: Client) -> None:
    client.prepare("x")
    client.commit("base", "x")
    client.prepare("active", "base")
