"""Registries: one in this process, and Debian's docker-registry in its forms, each started once by each process."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from tests.registry.certificates import Authority
from tests.registry.jwt_server import JWTServer, jwt_server
from tests.registry.servers import RegistryServer, docker_registry, program_missing

#: Who may do everything at the registries that ask.
USERS = {"ada": "pass:word", "bob": "other"}


def need(*programs: str) -> None:
    """Skip the test if docker-registry, or one of other programs, is not installed."""
    if reason := program_missing("docker-registry", *programs):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def servers_directory() -> Iterator[Path]:
    """Yield a directory for what the servers have. pytest's own are kept after the tests."""
    with tempfile.TemporaryDirectory(prefix="layerstore-registry-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def authority(servers_directory: Path) -> Authority:
    """Return an authority that only these tests trust."""
    need("openssl")
    return Authority(servers_directory / "authority")


@pytest.fixture(scope="session")
def plain_registry(servers_directory: Path) -> Iterator[RegistryServer]:
    """Yield a registry for everyone, in clear."""
    need()
    with docker_registry(servers_directory / "plain") as server:
        yield server


@pytest.fixture(scope="session")
def basic_registry(servers_directory: Path) -> Iterator[RegistryServer]:
    """Yield a registry that asks for a password, with Basic authentication."""
    need("htpasswd")
    with docker_registry(servers_directory / "basic", users=USERS) as server:
        yield server


@pytest.fixture(scope="session")
def token_server(authority: Authority) -> Iterator[JWTServer]:
    """Yield the token server of `token_registry`. Everyone may pull."""
    with jwt_server(authority.server(), USERS, anonymous=("pull",)) as server:
        yield server


@pytest.fixture(scope="session")
def token_registry(servers_directory: Path, authority: Authority, token_server: JWTServer) -> Iterator[RegistryServer]:
    """Yield a registry that asks for tokens."""
    with docker_registry(
        servers_directory / "token", tokens=token_server, token_certificate=authority.certificate
    ) as server:
        yield server


@pytest.fixture(scope="session")
def tls_registry(servers_directory: Path, authority: Authority) -> Iterator[RegistryServer]:
    """Yield a registry that encrypts, with a certificate of the tests' own authority."""
    with docker_registry(servers_directory / "tls", tls=authority.server()) as server:
        yield server


@pytest.fixture(scope="session")
def mutual_registry(servers_directory: Path, authority: Authority) -> Iterator[RegistryServer]:
    """Yield a registry that encrypts, and wants a certificate of its clients."""
    with docker_registry(
        servers_directory / "mutual", tls=authority.server(), client_authority=authority.certificate
    ) as server:
        yield server


@pytest.fixture(scope="session")
def mirror_registry(servers_directory: Path, plain_registry: RegistryServer) -> Iterator[RegistryServer]:
    """Yield a pull-through mirror of `plain_registry`."""
    with docker_registry(servers_directory / "mirror", mirror_of=plain_registry.url) as server:
        yield server


@pytest.fixture
def unused_host() -> Iterator[str]:
    """Yield an address at which nothing answers: connections are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # it is taken, and nothing listens
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have the client wait for nothing between attempts; return for how long it would have waited."""
    made: list[float] = []

    def pause(seconds: float, closing: Event) -> bool:
        made.append(seconds)
        return True

    monkeypatch.setattr("layerstore_core.registry.http.retries.pause_for", pause)
    return made
