"""Private daemons of peers: their data, sockets and processes belong to the benchmark and end with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: The file in a daemon's directory that has its process ID.
PID: Final = "pid"
_TRIES, _PAUSE = 100, 0.2
_ASK = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])"


@contextmanager
def docker_daemon(work: Path) -> Iterator[list[str] | None]:
    """Start a Docker daemon. Yield its client's command line, or `None` if it is not installed or does not start."""
    home = work / "docker"
    socket = f"unix://{home}/socket"
    options = ["--bridge=none", "--iptables=false", f"--data-root={home}/data", f"--exec-root={home}/exec"]
    options += [f"--pidfile={home}/pidfile", "-H", socket, "--storage-driver=overlay2"]
    with _daemon(home, ["dockerd", *options], ["docker", "-H", socket], "info") as client:
        yield client


@contextmanager
def containerd_daemon(work: Path, snapshotters: Mapping[str, Path] | None = None) -> Iterator[list[str] | None]:
    """Start a containerd. Yield the command line of `ctr`, or `None` if it is not installed or does not start.

    `snapshotters` has the sockets of snapshotters that are processes of their own, by name.
    """
    home = work / "containerd"
    config = work / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{home}/data"\nstate = "{home}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{home}/socket"\n'
        f'[plugins."io.containerd.internal.v1.opt"]\npath = "{home}/opt"\n'
        + "".join(
            f'[proxy_plugins.{name}]\ntype = "snapshot"\naddress = "{address}"\n'
            for name, address in (snapshotters or {}).items()
        )
    )
    client = ["ctr", "--address", f"{home}/socket", "--namespace", "bench"]
    with _daemon(home, ["containerd", "--config", str(config)], client, "version") as found:
        yield found


@contextmanager
def registry(work: Path) -> Iterator[str | None]:
    """Start a registry on a free port of loopback. Yield its address, or `None` if it is not installed."""
    if shutil.which("docker-registry") is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = work / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {work}/registry}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    with (work / "registry.log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        with server:
            try:
                question = [sys.executable, "-c", _ASK, f"http://{address}/v2/"]
                yield address if _answers(server, question) else None
            finally:
                server.terminate()


@contextmanager
def _daemon(home: Path, server: list[str], client: list[str], question: str) -> Iterator[list[str] | None]:
    if os.geteuid() or shutil.which(server[0]) is None or shutil.which(client[0]) is None:
        yield None
        return
    home.mkdir()
    with (home / "log").open("wb") as log, subprocess.Popen(server, stdout=log, stderr=log) as daemon:
        (home / PID).write_text(str(daemon.pid))
        try:
            yield client if _answers(daemon, [*client, question]) else None
        finally:
            daemon.terminate()


def _answers(daemon: subprocess.Popen[bytes], question: list[str]) -> bool:
    for _ in range(_TRIES):
        if subprocess.run(question, check=False, capture_output=True).returncode == 0:
            return True
        if daemon.poll() is not None:
            break
        time.sleep(_PAUSE)
    print(f"{question[0]}: the daemon does not start", file=sys.stderr)
    return False
