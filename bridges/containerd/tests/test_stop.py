"""The end of a server: by a signal, with calls that run, and by a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from layerstore_containerd.messages import CALLS

from layerstore_core import LayerStore, check_store, collect_garbage

from .client import PATIENCE, Client, Server, arguments, code, running, wait_until_ready

SLOW = Path(__file__).with_name("slow_program.py")


def await_file(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def slow_server(directory: Path) -> Iterator[Server]:
    """A server whose call `Usage` waits until the file `go` exists."""
    log, address = directory / "log", directory / "s.sock"
    environment = {"STARTED": str(directory / "started"), "GO_ON": str(directory / "go")}
    with open(log, "wb") as output:
        words = [sys.executable, str(SLOW), *arguments(directory / "root", address)[3:]]
        process = subprocess.Popen(words, stderr=output, env={"PATH": "/usr/sbin:/usr/bin", **environment})
    server = Server(process, address, log)
    try:
        wait_until_ready(server)
        yield server
    finally:
        process.kill()
        process.wait(PATIENCE)


def start_usage(client: Client, directory: Path) -> grpc.Future:
    call = client.channel.unary_unary(CALLS["Usage"].path, response_deserializer=CALLS["Usage"].answer.FromString)
    running_call = call.future(CALLS["Usage"].request(key="a").SerializeToString(), timeout=PATIENCE)
    await_file(directory / "started")
    return running_call


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_the_server_when_running_calls_have_ended(directory: Path, number: signal.Signals) -> None:
    with slow_server(directory) as server, server.client() as client, server.client() as other:
        client.prepare("a")
        watch = other.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=PATIENCE)
        assert next(watch) == b"\x08\x01"
        call = start_usage(client, directory)
        server.process.send_signal(number)
        assert next(watch) == b"\x08\x02"  # not serving, for who watches
        end = time.monotonic() + PATIENCE
        while server.address.exists():  # nobody new is to come
            assert time.monotonic() < end
            time.sleep(0.01)
        with pytest.raises(grpc.RpcError) as refused:
            other.stat("a")
        assert code(refused.value) == "UNAVAILABLE"
        assert server.process.poll() is None
        (directory / "go").touch()
        assert call.result(PATIENCE).inodes >= 0
        assert server.process.wait(PATIENCE) == 0
        assert server.log.read_text() == ""


def test_second_signal_does_not_wait_for_clients(directory: Path) -> None:
    with slow_server(directory) as server, server.client() as client:
        client.prepare("a")
        call = start_usage(client, directory)
        server.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + PATIENCE
        while server.address.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError):
            call.result(PATIENCE)
        assert server.process.poll() is None  # the thread has not ended: a change would be made whole
        (directory / "go").touch()
        assert server.process.wait(PATIENCE) == 0


def test_call_goes_on_when_its_client_has_gone_away(directory: Path) -> None:
    with slow_server(directory) as server, server.client() as client:
        client.prepare("a")
        start_usage(client, directory).cancel()
        (directory / "go").touch()
        assert server.stop() == 0


def test_killed_server_has_kept_all_that_it_has_answered(directory: Path) -> None:
    """Eight clients make chains of snapshots, and the server is killed; twice."""
    root, address = directory / "root", directory / "s.sock"
    known: dict[str, str] = {}
    for round_number in range(2):
        with running(root, address) as server:
            before = {info.name: info.parent for info in server_list(server)}
            assert known.items() <= before.items()
            known = before
            answered: list[tuple[str, str]] = []
            threads = [
                threading.Thread(target=make_chain, args=(server, f"{round_number}-{number}", answered))
                for number in range(8)
            ]
            for thread in threads:
                thread.start()
            end = time.monotonic() + PATIENCE
            while len(answered) < 40 and time.monotonic() < end:
                time.sleep(0.005)
            server.kill()
            for thread in threads:
                thread.join(PATIENCE)
            assert len(answered) >= 40
            known.update(answered)
    with LayerStore.open(root=root, driver="vfs", create=False) as store:
        assert {finding.code for finding in check_store(store)} <= {"unfinished-snapshot"}
        collect_garbage(store)
        assert check_store(store) == []
    with running(root, address) as server, server.client() as client:
        names = {info.name: info.parent for info in client.list()}
        assert known.items() <= names.items()
        for name in reversed(client.names()):
            client.remove(name)
        assert server.stop() == 0
    with LayerStore.open(root=root, driver="vfs", create=False) as store:
        assert store.driver.layer_ids() == []


def server_list(server: Server) -> list:
    with server.client() as client:
        return client.list()


def make_chain(server: Server, name: str, answered: list[tuple[str, str]]) -> None:
    parent = ""
    with server.client() as client:
        for number in range(10_000):
            try:
                client.prepare(f"{name} {number} active", parent)
                client.commit(f"{name} {number}", f"{name} {number} active")
            except grpc.RpcError:
                return
            answered.append((f"{name} {number}", parent))
            parent = f"{name} {number}" if number % 5 else ""
