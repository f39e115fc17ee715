"""Certificates for tests: an authority of their own, and what it signs, made by the program openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


def why_not() -> str:
    """Return why no certificates can be made here. Empty if they can."""
    return "" if shutil.which("openssl") else "openssl is not installed (Debian's package openssl)"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files in the PEM format."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """Return what a server encrypts with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Authority:
    """An authority that signs certificates.

    Args:
        directory: where all files are made.
        name: the name of the authority.

    Attributes:
        certificate: what clients have to trust.
    """

    def __init__(self, directory: Path, name: str = "Tests' own authority") -> None:
        self._directory = directory
        self._count = 0
        directory.mkdir(parents=True, exist_ok=True)
        self._pair = self._make("authority", name, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
        self.certificate = self._pair.certificate

    def server(self, *names: str) -> Pair:
        """Sign a certificate of a server. `names`: such as "IP:127.0.0.1"; those of loopback without any."""
        names = names or ("IP:127.0.0.1", "IP:::1", "DNS:localhost")
        return self._make("server", "server", f"subjectAltName={','.join(names)}", "extendedKeyUsage=serverAuth")

    def client(self, name: str) -> Pair:
        """Sign a certificate of a client."""
        return self._make("client", name, "extendedKeyUsage=clientAuth")

    def _make(self, file: str, name: str, *extensions: str) -> Pair:
        self._count += 1
        stem = self._directory / f"{file}{self._count}"
        pair = Pair(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        # docker-registry 2.8 knows tokens of RSA keys and of elliptic curves; RS256 wants the former.
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-out", str(pair.certificate), "-keyout", str(pair.key), "-config", "/dev/null"]
        for extension in extensions:
            command += ["-addext", extension]
        if file != "authority":
            command += ["-CA", str(self._pair.certificate), "-CAkey", str(self._pair.key)]
        subprocess.run(command, check=True, capture_output=True)
        return pair
