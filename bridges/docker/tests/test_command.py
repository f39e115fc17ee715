"""The program: its options, its socket, and what it says when it cannot start."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner
from layerstore_docker_plugin.command import cli

from layerstore_core import LayerStore
from tests.store.layers import BASE, register

from .served import Client, command, serving


def refused(*words, **options):
    """Run the program, which must fail, and return what it says."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr
    assert not done.stdout
    return done.stderr


class TestRefused:
    def test_a_root_is_needed(self):
        assert "Missing option '--root'" in refused(sys.executable, "-m", "layerstore_docker_plugin")

    def test_an_unknown_driver(self, place):
        root, address = place
        assert "no driver 'nothing' is installed" in refused(*command(root, address, driver="nothing"))
        assert not root.exists()
        assert not address.exists()

    @pytest.mark.parametrize("words", [["--driver-opt", "size"], ["--socket-mode", "rw"], ["--socket-mode", "99"]])
    def test_a_wrong_word(self, place, words):
        assert "Usage:" in refused(*command(*place, *words))

    def test_an_option_that_the_driver_does_not_know(self, place):
        assert "nonsense" in refused(*command(*place, "--driver-opt", "nonsense=1"))

    def test_a_root_of_a_store(self, place):
        root, address = place
        with LayerStore.open(root=root, driver="vfs") as store:
            register(store, BASE)
        assert "has a store's layers of driver vfs" in refused(*command(root, address))
        assert not address.exists()

    def test_something_else_at_the_address(self, place):
        root, address = place
        address.write_text("mine")
        assert f"{address} is no socket; remove it" in refused(*command(root, address))
        assert address.read_text() == "mine"

    def test_a_plugin_where_no_directory_can_be(self, tmp_path):
        """The error names what was asked for, and not a temporary directory."""
        target = tmp_path / "missing" / "plugin"
        words = (sys.executable, "-m", "layerstore_docker_plugin", "plugin", str(target), "--driver", "vfs")
        error = refused(*words)
        assert error.startswith(f"layerstore-graphdriver: {target}: No such file or directory")
        assert ".tmp-" not in error

    def test_a_path_that_is_too_long(self, place):
        root, address = place
        assert "is longer than 107 bytes" in refused(*command(root, address.parent / ("s" * 120)))

    def test_an_address_in_a_file(self, place):
        root, address = place
        address.write_text("")
        assert f"{address}/sock" in (text := refused(*command(root, address / "sock"))) or "Not a directory" in text

    def test_a_second_server_on_the_root(self, served, tmp_path):
        told = refused(*command(served.root, tmp_path / "other"))
        assert "another process serves the layers of driver vfs" in told
        assert served.client().call("Exists", ID="a") == {"Exists": False}

    def test_a_second_server_at_the_address(self, served, tmp_path):
        told = refused(*command(tmp_path / "other", served.address))
        assert f"another server listens on {served.address}" in told
        assert served.client().call("Exists", ID="a") == {"Exists": False}

    def test_a_store_on_the_root_of_a_server(self, served):
        served.client().call("Create", ID="a" * 64)
        program = [sys.executable, "-m", "layerstore_core", "--root", str(served.root), "--driver", "vfs"]
        assert "belong to another program" in refused(*program, "gc")
        assert served.client().call("Exists", ID="a" * 64) == {"Exists": True}


def test_the_mode_of_the_socket(place):
    with serving(*place, "--socket-mode", "0660") as served:
        assert stat.S_IMODE(os.stat(served.address).st_mode) == 0o660


def test_by_default_only_the_owner_may_connect(served):
    assert stat.S_IMODE(os.stat(served.address).st_mode) == 0o600


def test_logs_are_lines_of_json(place):
    with serving(*place, "-v", "--log-json") as served:
        served.client().call("Create", ID="a" * 64)
        served.stop()
        lines = [json.loads(line) for line in served.process.stderr.read().splitlines()]
    messages = [line["record"]["message"] for line in lines]
    assert any(message.startswith(f"GraphDriver.Create {'a' * 64} in ") for message in messages)


def test_a_configuration_file(place, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[drivers.vfs]\nnonsense = 1\n")
    assert "nonsense" in refused(*command(*place, "--config", str(file)))


class TestSystemd:
    """A socket that systemd passes, and what it is told."""

    def start(self, place, listener, **environment):
        """Start the program with descriptor 3, as systemd does."""
        script = f"export LISTEN_PID=$$; exec {shlex.join(command(*place))} 3<&{listener.fileno()}"
        return subprocess.Popen(
            ["bash", "-c", script],
            pass_fds=[listener.fileno()],
            env={**os.environ, "LISTEN_FDS": "1", **environment},
            stderr=subprocess.PIPE,
        )

    def test_a_passed_socket(self, place):
        root, address = place
        told = address.parent / "notify"
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
        ):
            notified.bind(str(told))
            notified.settimeout(30)
            listener.bind(str(address))
            listener.listen()
            client = Client(address)
            client.connection.connect()  # waits in the queue until the server is there
            with self.start((root, root.parent / "unused"), listener, NOTIFY_SOCKET=str(told)) as process:
                assert notified.recv(100) == b"READY=1"
                assert client.call("Exists", ID="a") == {"Exists": False}
                process.terminate()
                assert notified.recv(100) == b"STOPPING=1"
                assert process.wait(30) == 0
            client.close()
            assert address.is_socket()  # it is systemd's
            assert not (root.parent / "unused").exists()

    def test_another_kind_of_socket(self, place):
        root, address = place
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(address))
            with self.start((root, address), listener) as process:
                assert process.wait(30) == 1
                assert b"is not a Unix stream socket" in process.stderr.read()

    def test_sockets_of_another_process_are_left_alone(self, place):
        with serving(*place, LISTEN_PID="1", LISTEN_FDS="1") as served:
            assert served.client().call("Exists", ID="a") == {"Exists": False}


@pytest.mark.parametrize("words", [[], ["plugin"]])
def test_help_has_an_example(words):
    shown = CliRunner().invoke(cli, [*words, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    assert "\b" not in shown.output
    selected = cli.commands[words[0]] if words else cli
    assert isinstance(selected, click.Command)
    assert inspect.cleandoc(selected.help).partition("Example:")[2].strip().startswith("layerstore-graphdriver ")


def test_version():
    assert CliRunner().invoke(cli, ["--version"]).output.startswith("layerstore-graphdriver 0.")


def test_help_imports_little():
    """Completion and help do not wait for what they do not use."""
    script = "import sys, layerstore_docker_plugin.command\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {"pydantic", "http.server", "layerstore_core.driver.bound", "loguru"} & loaded


def test_a_server_waits_for_the_lock_of_none(place):
    """A server that has been killed keeps nothing: the next one starts at once."""
    began = time.monotonic()
    for _ in range(2):
        with serving(*place) as served:
            served.process.kill()
            served.process.wait()
    assert time.monotonic() - began < 60
