"""Servers that tests share, and directories with names short enough for sockets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .client import Client, Server, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("needs_root") and os.geteuid():
            item.add_marker(pytest.mark.skip(reason="needs the rights of root: mounts"))


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lsc-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    path = Path(tempfile.mkdtemp(prefix="lsc-"))
    try:
        with running(path / "root", path / "s.sock", LAYERSTORE_DURABILITY="none") as server:
            yield server
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def client(shared_server: Server) -> Iterator[Client]:
    """A client of a server that the tests of a module share. After the test there are no snapshots."""
    with shared_server.client() as client:
        yield client
        for name in reversed(client.names()):
            client.remove(name)
