"""`layerstore-snapshotter` as a process of its own, and the store's commands on the root that it serves."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bridges.containerd.tests.real.engine import PATIENCE, without_notify_socket

PROGRAMS = Path(sys.executable).parent


class StoreFailed(Exception):
    """A command of the store has failed. Its message has the arguments and what it said."""


class Server:
    """A server of a driver's snapshots that can be killed and started again on the same root.

    Attributes:
        root: the store's root, which other commands use at the same time.
        address: the socket that containerd connects to.
    """

    def __init__(self, root: Path, driver: str, directory: Path) -> None:
        self.root = root
        self.driver = driver
        self.address = directory / "layerstore.sock"
        self._log = directory / "layerstore.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it listens. A socket of a killed one may be there: the server's own business."""
        options = ("--root", self.root, "--driver", self.driver, "--address", self.address)
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / "layerstore-snapshotter", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=without_notify_socket(),
            )
        deadline = time.monotonic() + PATIENCE
        while not self._listens():
            assert self._process.poll() is None, self.log()[-4000:]
            assert time.monotonic() < deadline, f"the server does not listen: {self.log()[-4000:]}"
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.address)) == 0

    def kill(self) -> None:
        """Kill it, as the kernel does that has no memory left."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Stop it as systemd does, and check that it ends well."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(PATIENCE) == 0, self.log()[-4000:]

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def store(self, *words: str | Path, statuses: tuple[int, ...] = (0,)) -> str:
        """Run a command of the store on the server's root. Return its standard output.

        Raises:
            StoreFailed: it failed, or its status is none of `statuses`.
        """
        command = [PROGRAMS / "layerstore", "--root", self.root, "--driver", self.driver, *words]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL)
        if done.returncode not in statuses:
            said = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
            raise StoreFailed(f"layerstore {' '.join(map(str, words))}: status {done.returncode}: {said.strip()}")
        return done.stdout.decode(errors="surrogateescape")

    def json(self, *words: str | Path) -> Any:
        return json.loads(self.store(*words, "--json"))

    def errors(self) -> list[str]:
        """Return the lines of the log that report errors, or have a traceback."""
        return [line for line in self.log().splitlines() if re.search(r"ERROR|CRITICAL|Traceback", line)]
