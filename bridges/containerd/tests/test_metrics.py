"""Figures for Prometheus, and the health service."""

from __future__ import annotations

import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from layerstore_containerd.messages import SERVICE
from prometheus_client.parser import text_string_to_metric_families

from .client import PATIENCE, Client, arguments, code, running


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def figures(port: int) -> dict[str, float]:
    """All samples, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    return {
        " ".join([sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_calls_times_and_snapshots_are_counted(directory: Path) -> None:
    port = free_port()
    with running(directory / "root", directory / "s.sock", "--metrics", str(port)) as server, server.client() as client:
        client.prepare("a")
        client.commit("base", "a")
        client.view("v", "base")
        client.list()
        with pytest.raises(grpc.RpcError):
            client.stat("none")
        found = figures(port)
        assert found["layerstore_snapshotter_calls_total call=Prepare code=OK"] == 1
        assert found["layerstore_snapshotter_calls_total call=Stat code=NOT_FOUND"] == 1
        assert found["layerstore_snapshotter_calls_total call=List code=OK"] == 1
        assert found["layerstore_snapshotter_running_calls call=Commit"] == 0
        assert found["layerstore_snapshotter_call_seconds_count call=Commit"] == 1
        assert found["layerstore_snapshotter_call_seconds_sum call=Commit"] > 0
        assert found["layerstore_snapshotter_snapshots kind=committed"] == 1
        assert found["layerstore_snapshotter_snapshots kind=view"] == 1
        assert found["layerstore_snapshotter_snapshots kind=active"] == 0
        assert found["process_open_fds"] > 0
        assert server.stop() == 0
    with pytest.raises(urllib.error.URLError):
        figures(port)


def test_call_that_was_cancelled_is_counted_as_such(directory: Path) -> None:
    port = free_port()
    with (
        running(directory / "root", directory / "s.sock", "--metrics", f"localhost:{port}") as server,
        server.client() as client,
    ):
        for number in range(12):  # more than is on its way to a client that does not read
            client.prepare(f"k{number}", labels={"l": "v" * 1_000_000})
        reading = client("List")
        next(reading)
        reading.cancel()
        key = "layerstore_snapshotter_calls_total call=List code=CANCELLED"
        assert any(figures(port).get(key) == 1 for _ in range(100))


def test_port_that_is_taken_is_an_error_in_words(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = arguments(directory / "root", directory / "s.sock", "--metrics", str(taken.getsockname()[1]))
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert "--metrics" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (directory / "s.sock").exists()


def test_health_is_that_of_the_snapshots(client: Client) -> None:
    assert client.health() == "SERVING"
    assert client.health(SERVICE) == "SERVING"
    with pytest.raises(grpc.RpcError) as error:
        client.health("other")
    assert code(error.value) == "NOT_FOUND"


def test_health_of_snapshots_that_cannot_be_read() -> None:
    import asyncio

    from grpc_health.v1 import health_pb2
    from layerstore_containerd.health import Health

    works = iter((True, False, True))

    async def check() -> None:
        if not next(works):
            raise OSError("the disk is gone")

    async def states() -> list[int]:
        health, found = Health(check), []
        for _ in range(3):
            await health.update()
            answer = await health.servicer.Check(health_pb2.HealthCheckRequest(service=SERVICE), None)
            found.append(answer.status)
        await health.end()
        found.append((await health.servicer.Check(health_pb2.HealthCheckRequest(), None)).status)
        return found

    assert asyncio.run(states()) == [1, 2, 1, 2]
