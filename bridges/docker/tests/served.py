"""A server as its own process, and a client that speaks to it as Docker does."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ONE, TWO, THREE = (digit * 64 for digit in "123")


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket, with an empty Host header as Docker's client sends it."""

    def __init__(self, address: Path) -> None:
        super().__init__("", timeout=60)
        self.address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(str(self.address))


class Client:
    """A client with one connection.

    Args:
        address: the server's socket.
    """

    def __init__(self, address: Path) -> None:
        self.connection = UnixConnection(address)

    def send(self, path: str, body=b"", method="POST", **headers):
        """Send a request, and return the status and the body of the answer."""
        self.connection.request(method, path, body, headers, encode_chunked="Transfer-Encoding" in headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def ask(self, method: str, **fields):
        """Call a method, and return the whole answer."""
        name = method if "." in method else f"GraphDriver.{method}"
        status, text = self.send(f"/{name}", json.dumps(fields).encode())
        assert status == 200, text
        return json.loads(text)

    def call(self, method: str, **fields):
        """Call a method that must succeed."""
        answer = self.ask(method, **fields)
        assert not answer.get("Err"), answer
        return answer

    def apply(self, layer: str, parent: str, chunks):
        """Call ApplyDiff with a chunked body."""
        path = f"/GraphDriver.ApplyDiff?id={layer}&parent={parent}"
        status, text = self.send(path, iter(chunks), **{"Transfer-Encoding": "chunked"})
        return status, json.loads(text)

    def diff(self, layer: str, parent: str = ""):
        """Call Diff, and return the tar."""
        status, text = self.send("/GraphDriver.Diff", json.dumps({"ID": layer, "Parent": parent}).encode())
        assert status == 200, text
        return text

    def close(self) -> None:
        self.connection.close()


class Served:
    """A server that runs.

    Args:
        root: its root.
        address: its socket.
        process: its process.
    """

    def __init__(self, root: Path, address: Path, process: subprocess.Popen[str]) -> None:
        self.root, self.address, self.process = root, address, process
        self.clients: list[Client] = []

    def client(self) -> Client:
        """Return a new client."""
        client = Client(self.address)
        self.clients.append(client)
        return client

    def peak_memory(self) -> int:
        """Return the most memory that the server has had, in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    def wait_for_no_calls(self) -> None:
        """Wait until the server has no thread but its first: no call that hangs keeps a connection."""
        for client in self.clients:
            client.close()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if len(os.listdir(f"/proc/{self.process.pid}/task")) == 1:
                return
            time.sleep(0.02)
        raise AssertionError("a connection has not ended")

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Stop the server, and return its exit code."""
        for client in self.clients:
            client.close()
        self.process.send_signal(signum)
        return self.process.wait(60)


def command(root: Path, address: Path, *words: str, driver: str = "vfs") -> list[str]:
    program = [sys.executable, "-m", "layerstore_docker_plugin"]
    return [*program, "--root", str(root), "--driver", driver, "--address", str(address), *words]


@contextmanager
def serving(
    root: Path, address: Path, *words: str, driver: str = "vfs", before: str = "", **environment: str
) -> Iterator[Served]:
    """Run a server for the length of a `with` block, after a piece of Python in its process."""
    program = command(root, address, *words, driver=driver)
    if before:
        program[1:3] = ["-c", f"{before}\nfrom layerstore_docker_plugin.command import main; main()"]
    process = subprocess.Popen(
        program,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    served = Served(root, address, process)
    try:
        wait_for(address, process)
        yield served
    finally:
        for client in served.clients:
            client.close()
        if process.poll() is None:
            process.kill()
        process.communicate()
        address.unlink(missing_ok=True)


def wait_for(address: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a server listens."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(address))
                return
            except OSError:
                if process.poll() is not None:
                    raise AssertionError(f"the server has ended: {process.stderr.read()}") from None
                time.sleep(0.02)
    raise AssertionError("the server does not listen")
