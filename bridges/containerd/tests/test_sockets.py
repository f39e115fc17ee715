"""The socket of the server: its name, who may use it, and what may be in its place."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path

import pytest
from layerstore_containerd.sockets import (
    AddressInUse,
    listening_path,
    parse_address,
    private_files,
    publish,
    starting_at,
    withdraw,
)

from layerstore_core.errors import ConfigError

from .client import PATIENCE, arguments, running


def listening(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.bind(str(path))
    found.listen()
    return found


def fails(root: Path, address: Path) -> str:
    """Start the program, which must fail; return what it says."""
    done = subprocess.run(arguments(root, address), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("layerstore-snapshotter: ")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


@pytest.mark.parametrize("word", ["/run/x/s.sock", "unix:///run/x/s.sock", "unix:/run/x/s.sock", "/run//x/../x/s.sock"])
def test_address_is_a_path_or_its_url(word: str) -> None:
    assert parse_address(word) == Path("/run/x/s.sock")


def test_relative_address_is_below_the_current_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/run")
    assert parse_address("s.sock") == Path("/run/s.sock")


@pytest.mark.parametrize("word", ["", "unix:", "unix://", "/run/", "tcp://127.0.0.1:1", "http://x", "/run/a\0b"])
def test_address_that_is_no_socket_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"give a path, such as /run/layerstore/snapshotter\.sock"):
        parse_address(word)


def test_longest_address_works_and_the_message_about_a_longer_one_has_the_limit(directory: Path) -> None:
    with pytest.raises(ConfigError, match=r"too long for a socket: (\d+) bytes at most") as error:
        parse_address("/" + "x" * 200)
    longest = int(str(error.value).partition("socket: ")[2].split()[0])
    path = directory / ("x" * (longest - len(str(directory)) - 1))
    assert parse_address(str(path)) == path
    with starting_at(path):
        assert list(directory.iterdir()) == []
    with pytest.raises(ConfigError):
        parse_address(f"{path}x")


def test_directory_is_made_for_the_owner_alone(directory: Path) -> None:
    with starting_at(directory / "run" / "s.sock"):
        pass
    assert stat.S_IMODE((directory / "run").stat().st_mode) == 0o700


def test_socket_that_nobody_listens_at_is_replaced(directory: Path) -> None:
    path = directory / "s.sock"
    for place in (path, listening_path(path)):
        listening(place).close()
    with starting_at(path):
        listening(listening_path(path)).close()
        identity = publish(path)
    assert path.stat().st_ino == identity[1]
    assert [found.name for found in directory.iterdir()] == ["s.sock"]


def test_live_socket_is_left_alone(directory: Path) -> None:
    path = directory / "s.sock"
    with listening(path), pytest.raises(AddressInUse, match="another server listens"), starting_at(path):
        pass
    assert stat.S_ISSOCK(path.lstat().st_mode)


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(directory: Path, kind: str) -> None:
    path = directory / "s.sock"
    {"file": path.touch, "directory": path.mkdir, "link": lambda: path.symlink_to("elsewhere")}[kind]()
    with pytest.raises(AddressInUse, match="is no socket"), starting_at(path):
        pass
    assert path.is_symlink() or path.exists()


def test_second_server_that_starts_at_the_same_time_waits(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerstore_containerd.sockets._PATIENCE", 0.1)
    path = directory / "s.sock"
    with starting_at(path), pytest.raises(AddressInUse, match="has locked"), starting_at(path):
        pass
    with starting_at(path):
        pass


def test_name_of_another_server_is_not_removed(directory: Path) -> None:
    path = directory / "s.sock"
    with starting_at(path), private_files():
        listening(listening_path(path)).close()
        first = publish(path)
    with starting_at(path), private_files():
        listening(listening_path(path)).close()
        second = publish(path)
    withdraw(path, first)
    assert path.exists()
    withdraw(path, second)
    assert not path.exists()
    withdraw(path, second)


def test_server_listens_for_its_user_only_and_removes_its_socket(directory: Path) -> None:
    address = directory / "with % and ü" / "s.sock"
    with running(directory / "root", address) as server, server.client() as client:
        client.prepare("a")
        assert stat.S_IMODE(address.stat().st_mode) == 0o600
        assert server.stop() == 0
        assert list(address.parent.iterdir()) == []


def test_killed_server_is_replaced_and_a_live_one_is_not(directory: Path) -> None:
    root, other, address = directory / "root", directory / "other", directory / "s.sock"
    with running(root, address) as server, server.client() as client:
        client.prepare("a")
        server.kill()
    assert address.exists()
    with running(root, address) as server, server.client() as client:
        assert client.names() == ["a"]
        assert "another server listens" in fails(other, address)
        # Another address does not help: the root has one server.
        message = fails(root, directory / "other.sock")
        assert str(root) in message
        assert not (directory / "other.sock").exists()
        client.prepare("b")
        assert server.stop() == 0


def test_address_in_a_place_that_cannot_be_is_an_error_in_words(directory: Path) -> None:
    (directory / "file").touch()
    assert "Not a directory" in fails(directory / "root", directory / "file" / "s.sock")
    assert "too long" in fails(directory / "root", directory / ("x" * 120))
