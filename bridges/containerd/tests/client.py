"""A client of the snapshot service, and the program as a process of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from layerstore_containerd.messages import CALLS, Info

#: Seconds for a call, and for a server that starts or ends. No test waits that long, unless it fails.
PATIENCE = 60
#: gRPC's clients of one process share connections otherwise.
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))


def code(error: grpc.RpcError) -> str:
    name: str = error.code().name
    return name


class Client:
    """Calls the service at a socket."""

    def __init__(self, address: Path) -> None:
        self.channel = grpc.insecure_channel(f"unix:{address}", options=OPTIONS)

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def raw(self, name: str, data: bytes) -> Any:
        call = CALLS[name]
        method = self.channel.unary_stream if call.streams else self.channel.unary_unary
        return method(call.path, response_deserializer=call.answer.FromString)(data, timeout=PATIENCE)

    def __call__(self, name: str, /, **fields: Any) -> Any:
        return self.raw(name, CALLS[name].request(**fields).SerializeToString())

    def prepare(self, key: str, parent: str = "", labels: Mapping[str, str] | None = None) -> list[Any]:
        return list(self("Prepare", key=key, parent=parent, labels=labels).mounts)

    def view(self, key: str, parent: str = "", labels: Mapping[str, str] | None = None) -> list[Any]:
        return list(self("View", key=key, parent=parent, labels=labels).mounts)

    def mounts(self, key: str) -> list[Any]:
        return list(self("Mounts", key=key).mounts)

    def commit(self, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        self("Commit", name=name, key=key, labels=labels)

    def remove(self, key: str) -> None:
        self("Remove", key=key)

    def stat(self, key: str) -> Any:
        return self("Stat", key=key).info

    def update(self, key: str, labels: Mapping[str, str], paths: Sequence[str] = ()) -> Any:
        return self("Update", info=Info(name=key, labels=labels), update_mask={"paths": paths}).info

    def list(self, *filters: str) -> list[Any]:
        return [info for part in self("List", filters=filters) for info in part.info]

    def names(self, *filters: str) -> list[str]:
        return [info.name for info in self.list(*filters)]

    def health(self, service: str = "") -> str:
        check = health_pb2_grpc.HealthStub(self.channel).Check
        answer = check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
        name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return name


class Server:
    """The program, as a process."""

    def __init__(self, process: subprocess.Popen[bytes], address: Path, log: Path) -> None:
        self.process = process
        self.address = address
        self.log = log

    def client(self) -> Client:
        return Client(self.address)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def arguments(root: Path, address: Path | None, *more: str, driver: str = "vfs") -> list[str]:
    where = ["--address", str(address)] if address is not None else []
    return [sys.executable, "-m", "layerstore_containerd", "--root", str(root), "--driver", driver, *where, *more]


@contextmanager
def running(root: Path, address: Path, *more: str, driver: str = "vfs", **environment: str) -> Iterator[Server]:
    """Start the program, wait until it is ready, and end it after the block."""
    log = root.parent / f"{root.name}.log"
    ready, write = os.pipe()
    with open(log, "ab") as output:
        process = subprocess.Popen(
            arguments(root, address, *more, driver=driver),
            stderr=output,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
    os.close(write), os.close(ready)
    server = Server(process, address, log)
    try:
        wait_until_ready(server)
        yield server
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(PATIENCE)


def wait_until_ready(server: Server) -> None:
    end = time.monotonic() + PATIENCE
    while not server.address.exists():
        if server.process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"the server does not run: {server.log.read_text()}")
        select.select([], [], [], 0.01)
    with server.client() as client:
        while True:
            try:
                return grpc.channel_ready_future(client.channel).result(0.5)
            except grpc.FutureTimeoutError:
                if server.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"the server does not answer: {server.log.read_text()}") from None
