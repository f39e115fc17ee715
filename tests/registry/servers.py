"""Debian's docker-registry on a free port of the loopback interface, in the forms in which it is used.

It logs each request with the bytes that it sent, so that tests can count them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.registry.certificates import Pair
from tests.registry.jwt_server import ISSUER, SERVICE, JWTServer

_PATIENCE = 30
_PACKAGES = {"htpasswd": "apache2-utils"}
_ACCESS = re.compile(
    r'^\S+ - \S* \[[^]]*\] "(?P<target>\S+ \S+) HTTP/[\d.]+" (?P<status>\d+) (?P<sent>\d+) "[^"]*" "(?P<agent>[^"]*)"'
)


@cache
def program_missing(*programs: str) -> str:
    """Return which of some programs is not installed, and how it is called at Debian. Empty if all are."""
    for program in programs:
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian's package {_PACKAGES.get(program, program)})"
    return ""


@dataclass(frozen=True)
class Access:
    """A request that the server has answered: "GET /v2/", status, how many bytes of a body were sent, and who asked."""

    target: str
    status: int
    sent: int
    agent: str


class RegistryServer:
    """A running docker-registry.

    Attributes:
        host: the address, as it stands in the names of images.
        url: the address with the scheme.
        storage: the directory with all that it has.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        directory.mkdir(parents=True)
        self.storage = directory / "storage"
        self._log = directory / "log"
        self._access = directory / "access"
        whole = {
            "version": "0.1",
            "log": {"level": "info", "formatter": "text", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            **config,
        }
        whole["http"] = {"addr": "127.0.0.1:0", "secret": "tests", **config.get("http", {})}
        path = directory / "config.yml"
        path.write_text(json.dumps(whole))  # JSON is YAML
        with open(self._log, "wb") as log, open(self._access, "ab") as access:
            self._process = subprocess.Popen(
                # Tests that are killed do not stop it: the kernel does then.
                [
                    *(("setpriv", "--pdeathsig=KILL") if shutil.which("setpriv") else ()),
                    "docker-registry",
                    "serve",
                    path,
                ],
                stdin=subprocess.DEVNULL,
                stdout=access,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")},
                start_new_session=True,
            )
        try:
            self.host = self._address()
        except BaseException:
            self.stop()
            raise
        self.url = f"{'https' if 'tls' in whole['http'] else 'http'}://{self.host}"

    def _address(self) -> str:
        """Wait until it listens; return where."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if found := re.search(r"listening on (127\.0\.0\.1:[0-9]+)", self.log()):
                return found[1]
            assert self._process.poll() is None, self.log()[-4000:]
            time.sleep(0.01)
        raise AssertionError(f"docker-registry does not listen: {self.log()[-4000:]}")

    def log(self) -> str:
        """Return what it has logged."""
        return self._log.read_text(errors="replace")

    def requests(self, pattern: str = "") -> list[Access]:
        """Return the answered requests of which a regular expression is found in "METHOD /path?query"."""
        found = (_ACCESS.match(line) for line in self._access.read_text(errors="replace").splitlines())
        return [
            Access(match["target"], int(match["status"]), int(match["sent"]), match["agent"])
            for match in found
            if match is not None and re.search(pattern, match["target"])
        ]

    def sent(self, pattern: str = "") -> int:
        """Return how many bytes of bodies were sent in answer to such requests. HEAD counts what it announces."""
        return sum(access.sent for access in self.requests(pattern))

    def forget(self) -> None:
        """Forget all requests so far."""
        os.truncate(self._access, 0)

    def stop(self) -> None:
        """Stop it at once."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextmanager
def docker_registry(
    directory: Path,
    *,
    users: Mapping[str, str] | None = None,
    tokens: JWTServer | None = None,
    token_certificate: Path | None = None,
    tls: Pair | None = None,
    client_authority: Path | None = None,
    mirror_of: str | None = None,
    **more: Any,
) -> Iterator[RegistryServer]:
    """Run docker-registry for the length of a `with` block.

    Args:
        directory: a new directory for all of its files.
        users: passwords by names: Basic authentication.
        tokens: the token server that it sends clients to; `token_certificate` is what it trusts.
        tls: encrypts; `client_authority` signs the certificates that clients must have then.
        mirror_of: the address of a registry: it is a pull-through mirror of that.
        more: other keys of its configuration.
    """
    config: dict[str, Any] = dict(more)
    if users is not None:
        path = directory.with_name(directory.name + ".htpasswd")
        path.write_bytes(b"".join(_htpasswd(name, password) for name, password in users.items()))
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(path)}}
    if tokens is not None:
        config["auth"] = {
            "token": {
                "realm": tokens.realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(token_certificate),
            }
        }
    if tls is not None:
        config["http"] = {"tls": {"certificate": str(tls.certificate), "key": str(tls.key)}}
        if client_authority is not None:
            config["http"]["tls"]["clientcas"] = [str(client_authority)]
    if mirror_of is not None:
        config["proxy"] = {"remoteurl": mirror_of}
    server = RegistryServer(directory, config)
    try:
        yield server
    finally:
        server.stop()


def _htpasswd(name: str, password: str) -> bytes:
    """Return a line of a password file. docker-registry takes bcrypt only."""
    command = ["htpasswd", "-nBi", "-C", "4", name]
    return subprocess.run(command, input=password.encode(), capture_output=True, check=True).stdout.strip() + b"\n"
