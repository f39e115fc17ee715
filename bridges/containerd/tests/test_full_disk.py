"""A disk that is full: what clients are told, and that nothing is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from .client import code, running

pytestmark = pytest.mark.needs_root


@pytest.fixture
def small_disk(directory: Path) -> Iterator[Path]:
    mount = directory / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_full_disk_is_told_as_such_and_loses_nothing(small_disk: Path, directory: Path) -> None:
    with running(small_disk / "root", directory / "s.sock") as server, server.client() as client:
        (mount,) = client.prepare("a")
        Path(mount.source, "file").write_bytes(b"x" * 14_000_000)
        client.commit("base", "a")
        client.prepare("b", "base")  # with vfs, a copy
        with pytest.raises(grpc.RpcError) as error:
            client.prepare("c", "base")
        assert code(error.value) == "RESOURCE_EXHAUSTED"
        assert "No space left on device" in error.value.details()
        before = client.list()
        assert [info.name for info in before] == ["base", "b"]
        with open(small_disk / "filler", "wb") as filler, pytest.raises(OSError, match="No space left"):
            filler.write(b"y" * 40_000_000)
        for call, arguments in (("prepare", ("d",)), ("commit", ("e", "b")), ("update", ("b", {"l": "v" * 100_000}))):
            with pytest.raises(grpc.RpcError) as error:
                getattr(client, call)(*arguments)
            assert code(error.value) == "RESOURCE_EXHAUSTED", call
        assert client.list() == before
        client.remove("b")  # there is room for removals
        assert client.names() == ["base"]
        (small_disk / "filler").unlink()
        client.prepare("b", "base")
        client.commit("e", "b")
        assert Path(client.view("v", "e")[0].source, "file").stat().st_size == 14_000_000
        client.remove("v")
        client.remove("e")
        assert client.names() == ["base"]
        assert server.stop() == 0
