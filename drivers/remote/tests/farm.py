"""Servers for tests: one process that has imported everything, and forks a server for each root that is asked for.

It runs as `python farm.py CONTROL DIRECTORY`. A request is one line of JSON on the socket CONTROL; so is the answer.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

#: Fields of an error that Docker's protocol does not have.
OURS = {"Class", "Errno", "Path", "Reason", "Offset", "Entry"}
#: The answer to a request comes within this many seconds.
_PATIENCE = 60


class Farm:
    """The client of the process with the servers. It can be used in forked children, too.

    Args:
        directory: where the sockets are; a short path.
    """

    def __init__(self, directory: Path) -> None:
        self._control = directory / "control"
        self._process = subprocess.Popen([sys.executable, __file__, str(self._control), str(directory)])
        end = time.monotonic() + _PATIENCE
        while not self._control.exists():
            assert self._process.poll() is None, "the servers' process has ended"
            assert time.monotonic() < end, "the servers' process does not begin to listen"
            time.sleep(0.01)

    def serve(
        self,
        root: Path,
        driver: str,
        *,
        die_at: int = -1,
        stage: str = "before",
        method: str = "",
        docker_only: bool = False,
    ) -> str:
        """Serve a driver on a root, if that is not done. Return the address.

        Args:
            root: the server's root.
            driver: the driver's name.
            die_at: the number of the call, from 0, at which the server is killed; -1: it lives.
            stage: whether that is "before" the call's work, or "after" it, before the client has the whole answer.
            method: count the calls of this method only; empty: of all.
            docker_only: whether the server has Docker's methods alone, as a plugin that is not ours.
        """
        death = {"at": die_at, "stage": stage, "method": method}
        return self._ask(do="serve", root=str(root), driver=driver, death=death, docker_only=docker_only)

    def kill(self, root: Path) -> None:
        """Kill the server of a root, if it lives, and wait for its end."""
        self._ask(do="kill", root=str(root))

    def calls(self, root: Path) -> list[str]:
        """Return the methods that were called at the server of a root, in order."""
        return self._ask(do="calls", root=str(root))

    def end_all(self) -> None:
        """End all servers."""
        self._ask(do="end_all")

    def close(self) -> None:
        """End all servers and their process."""
        self.end_all()
        self._process.kill()
        self._process.wait()

    def _ask(self, **request: object):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(str(self._control))
            with connection.makefile("rwb") as file:
                file.write(json.dumps(request).encode() + b"\n")
                file.flush()
                answer = json.loads(file.readline())
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["answer"]


class _Servers:
    """The servers, in their own process."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._pids: dict[str, int] = {}
        self._addresses: dict[str, str] = {}

    def serve(self, root: str, driver: str, death: dict, docker_only: bool) -> str:
        address = self._addresses.setdefault(root, f"{self._directory}/{len(self._addresses)}")
        if self._lives(root):
            return address
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _end_with_parent()
            os.close(reading)
            _serve_and_exit(root, driver, address, writing, _Death(f"{address}.calls", **death), docker_only)
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            said = file.read().decode()
        if said != "listening":
            os.waitpid(pid, 0)
            raise AssertionError(f"no server for {root}: {said}")
        self._pids[root] = pid
        return address

    def kill(self, root: str) -> None:
        if root in self._pids and self._lives(root):
            os.kill(self._pids[root], signal.SIGKILL)
            os.waitpid(self._pids.pop(root), 0)

    def calls(self, root: str) -> list[str]:
        return Path(f"{self._addresses[root]}.calls").read_text().split()

    def end_all(self) -> None:
        for root in list(self._pids):
            self.kill(root)

    def _lives(self, root: str) -> bool:
        pid = self._pids.get(root)
        if pid is None:
            return False
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            del self._pids[root]
            return False
        return True


class _Breaking:
    """A file that is sent: the process is killed when its first block has gone."""

    def __init__(self, file, death: _Death) -> None:
        self._file, self._death, self._begun = file, death, False

    def read(self, size: int) -> bytes:
        if self._begun:
            self._death.at("after", "GraphDriver.Diff")
        self._begun = True
        return self._file.read(size)


class _Death:
    """Kills the process at one call."""

    def __init__(self, log: str, at: int, stage: str, method: str) -> None:
        self._at, self._stage, self._method, self._log = at, stage, method, log
        self._seen = 0

    def at(self, stage: str, method: str) -> None:
        if stage == "before":
            with open(self._log, "a") as file:
                file.write(f"{method}\n")
        if stage != self._stage or not method.startswith(self._method):
            return
        if self._seen == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._seen += 1


def _end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, which may be killed itself."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of prctl(2)


def _serve_and_exit(root: str, driver: str, address: str, writing: int, death: _Death, docker_only: bool) -> None:
    try:
        import layerstore_docker_plugin.server as module
        from layerstore_docker_plugin.lent import LentDriver
        from layerstore_docker_plugin.problems import BadRequest
        from layerstore_docker_plugin.sockets import listening

        from layerstore_core import load_config

        def settings(options, uids, gids):
            maps = {"uid_map": uids} if uids else {}
            maps |= {"gid_map": gids} if gids else {}
            return load_config(root=root, driver=driver, driver_options=dict(options), **maps)

        class Mortal(module.Connection):
            def _call(self, method, query, body):
                death.at("before", method)
                if docker_only and method.startswith("Layerstore."):
                    raise BadRequest("404 page not found", 404)
                super()._call(method, query, body)

            def _answer(self, status, answer):
                # The work is done, and the client does not know it yet.
                death.at("after", self.path.removeprefix("/").partition("?")[0])
                if docker_only:
                    answer = {name: value for name, value in answer.items() if name not in OURS}
                super()._answer(status, answer)

            def _send(self, file):
                super()._send(_Breaking(file, death))

        module.Connection = Mortal
        lent = LentDriver(settings)
        with listening(Path(address), 0o600) as listener:
            os.write(writing, b"listening")
            os.close(writing)
            module.Server(listener, lent).serve()
    except BaseException as error:
        os.write(writing, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)


def main(control: str, directory: str) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the tests' process may be killed

    from layerstore_core import load_config  # noqa: F401

    servers = _Servers(directory)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(control + ".new")
        listener.listen(128)
        os.rename(control + ".new", control)
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as file:
                request = json.loads(file.readline())
                try:
                    answer = {"answer": getattr(servers, request.pop("do"))(**request)}
                except Exception as error:
                    answer = {"error": str(error)}
                file.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
