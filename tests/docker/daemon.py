"""A private Docker daemon for the tests: it shares nothing with another daemon, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.driver_roots import mounts_below

_PATIENCE = 60
#: prctl(2), PR_SET_CHILD_SUBREAPER.
_SET_CHILD_SUBREAPER = 36


@cache
def why_not() -> str:
    """Return why no daemon can be started here. Empty if one can."""
    if os.geteuid() != 0:
        return "a Docker daemon needs the rights of root"
    for program in ("dockerd", "docker"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian's package docker.io)"
    return ""


def errors_of_layers(log: str, directory: Path) -> list[str]:
    """Return the lines of a daemon's log that report errors of layers or images.

    A daemon that tries to reach its containerd too early logs that as an error too. The line names a path in
    `directory`, and "layer" may be a part of that path.
    """
    errors = (line for line in log.splitlines() if "level=error" in line and "module=libcontainerd" not in line)
    return [line for line in errors if re.search("layer|image", line.replace(str(directory), ""))]


class Daemon:
    """A running daemon, and its client."""

    def __init__(self, root: Path, driver: str, directory: Path, *options: str) -> None:
        self.root = root
        self.driver = driver
        self._directory = directory
        self._socket = directory / "docker.sock"
        self._pid_file = directory / "docker.pid"
        self._log = directory / "log"
        command = [
            "dockerd",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            f"--data-root={root}",
            f"--exec-root={directory / 'exec'}",
            f"--host=unix://{self._socket}",
            f"--pidfile={self._pid_file}",
            f"--storage-driver={driver}",
            *options,
        ]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def errors(self) -> list[str]:
        """Return the errors of layers or images that the daemon has logged."""
        return errors_of_layers(self.log(), self._directory)

    def __call__(self, *args: str | Path, stdin: bytes = b"", seconds: float = _PATIENCE) -> bytes:
        """Run the client for so many seconds at most. Return its standard output."""
        environment = {**os.environ, "DOCKER_HOST": f"unix://{self._socket}", "DOCKER_BUILDKIT": "0"}
        done = subprocess.run(
            ["docker", *map(str, args)],
            input=stdin,
            capture_output=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, (args, done.stderr.decode(), self.log()[-2000:])
        return done.stdout

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """Start the client. Return its process, whose output is in one pipe."""
        environment = {**os.environ, "DOCKER_HOST": f"unix://{self._socket}"}
        return subprocess.Popen(["docker", *args], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def text(self, *args: str | Path, stdin: bytes = b"") -> str:
        return self(*args, stdin=stdin).decode().strip()

    def json(self, *args: str | Path) -> Any:
        return json.loads(self(*args))

    def lines(self, *args: str | Path) -> list[str]:
        return self(*args).decode("utf-8", "surrogateescape").splitlines()

    def kill(self) -> None:
        """Kill the daemon, and with it its containerd. Containers go on."""
        # The next daemon believes that a containerd runs as long as it is not reaped.
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)
        try:
            containerd = int((self._directory / "exec/containerd/containerd.pid").read_text())
            self._process.kill()
            self._process.wait()
            os.waitpid(containerd, 0)
        finally:
            ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 0)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        assert self._process.returncode == 0, self.log()[-2000:]

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log()[-4000:]
            if self._socket.exists() and self._answers():
                return
            time.sleep(0.05)
        raise AssertionError(f"the daemon does not answer: {self.log()[-4000:]}")

    def _answers(self) -> bool:
        environment = {**os.environ, "DOCKER_HOST": f"unix://{self._socket}"}
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


@contextmanager
def daemon(root: Path, driver: str, *options: str) -> Iterator[Daemon]:
    """Run a daemon on `root` for the length of a `with` block. Afterwards nothing of it runs or is mounted.

    Args:
        root: its data root.
        driver: its storage driver.
        options: more of its options.
    """
    # A socket's path may have at most 107 bytes. pytest's directories are longer.
    directory = Path(tempfile.mkdtemp(prefix="layerstore-docker-"))
    try:
        running = Daemon(root, driver, directory, *options)
        try:
            yield running
        finally:
            running.stop()
    finally:
        unmount(directory)
        unmount(root)
        shutil.rmtree(directory)


def unmount(root: Path) -> None:
    """Unmount what is left: a daemon that could not start, or was killed, leaves its root mounted on itself."""
    for point in mounts_below(root.parent):
        if Path(point).is_relative_to(os.path.realpath(root)):
            subprocess.run(["umount", point], check=False, capture_output=True)
