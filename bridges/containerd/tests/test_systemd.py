"""Socket activation, and what the service manager is told."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from layerstore_containerd.command import unit

from .client import PATIENCE, Server, arguments, wait_until_ready

#: Does what systemd does: the sockets become descriptors 3 and up, and the variables name this process.
LAUNCHER = """
import fcntl, os, sys
numbers = [int(word) for word in sys.argv[1].split(",")]
copies = [fcntl.fcntl(number, fcntl.F_DUPFD, 100) for number in numbers]
for position, copy in enumerate(copies):
    os.dup2(copy, 3 + position)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)), LISTEN_FDNAMES="a")
os.execv(sys.argv[2], sys.argv[2:])
"""


def launch(sockets: list[socket.socket], root: Path, *more: str, log: Path, **environment: str) -> subprocess.Popen:
    numbers = [one.fileno() for one in sockets]
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, ",".join(map(str, numbers)), *arguments(root, None, *more)],
            pass_fds=numbers,
            stderr=output,
            env={**os.environ, **environment},
        )


@contextmanager
def activated(passed: socket.socket, directory: Path, **environment: str) -> Iterator[Server]:
    log = directory / "log"
    process = launch([passed], directory / "root", log=log, **environment)
    try:
        server = Server(process, Path(passed.getsockname()), log)
        wait_until_ready(server)
        yield server
    finally:
        process.kill()
        process.wait(PATIENCE)


@pytest.fixture
def passed(directory: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(str(directory / "s.sock"))
        found.listen()
        yield found


def test_server_takes_the_socket_of_systemd_and_leaves_it(passed: socket.socket, directory: Path) -> None:
    with activated(passed, directory) as server, server.client() as client, server.client() as other:
        client.prepare("a", labels={"l": "v" * 500_000})
        client.commit("base", "a", {"l": "v" * 500_000})
        assert other.names() == ["base"]
        assert client.health() == "SERVING"
        private = directory / ".s.sock.new"
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert server.stop() == 0
        assert not private.exists()
    # systemd listens on, and starts the next one for the next client.
    assert (directory / "s.sock").exists()
    with activated(passed, directory) as server, server.client() as client:
        assert client.names() == ["base"]
        server.kill()
    with activated(passed, directory) as server, server.client() as client:
        assert client.names() == ["base"]


def test_client_that_came_before_the_server_is_answered(passed: socket.socket, directory: Path) -> None:
    """As containerd's first call does, which is what starts the server."""
    from .client import Client

    with Client(directory / "s.sock") as early:
        call = early.channel.unary_unary("/grpc.health.v1.Health/Check").future(
            b"", timeout=PATIENCE, wait_for_ready=True
        )
        with activated(passed, directory):
            assert call.result(PATIENCE) == b"\x08\x01"


def test_manager_is_told_when_the_server_is_ready_and_when_it_stops(passed: socket.socket, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(PATIENCE)
        with activated(passed, directory, NOTIFY_SOCKET=str(directory / "notify")) as server:
            assert manager.recv(100) == b"READY=1"
            assert server.stop() == 0
            assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("kind", ["datagram", "connected", "several"])
def test_wrong_descriptors_are_an_error_in_words(passed: socket.socket, directory: Path, kind: str) -> None:
    log = directory / "log"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
        socket.socket(socket.AF_UNIX) as connected,
    ):
        connected.connect(str(directory / "s.sock"))
        sockets = {
            "datagram": [datagram],
            "connected": [connected],
            "several": [passed, passed],
        }
        process = launch(sockets[kind], directory / "root", log=log)
        assert process.wait(PATIENCE) == 1
    assert "systemd has passed" in log.read_text()
    assert "ListenStream=/PATH" in log.read_text()
    assert not (directory / "root").exists()


def test_address_that_is_not_that_of_systemd_is_refused(passed: socket.socket, directory: Path) -> None:
    log = directory / "log"
    process = launch([passed], directory / "root", "--address", "/elsewhere", log=log)
    assert process.wait(PATIENCE) == 1
    assert "leave out --address" in log.read_text()


@pytest.mark.parametrize("kind", ["service", "socket"])
def test_unit_names_a_page_that_exists(kind: str) -> None:
    (page,) = (line for line in unit(kind).splitlines() if line.startswith("Documentation="))
    assert (Path(__file__).parents[3] / page.partition("/blob/main/")[2]).is_file()
