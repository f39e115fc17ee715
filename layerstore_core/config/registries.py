"""The settings of one registry: the table `[registries."HOST"]` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """The settings of one registry, or of one mirror, by its host and port.

    Attributes:
        mirrors: the mirrors to read from, the first one first: `HOST[:PORT][/PATH]`, or a URL.
        insecure: whether the server's certificate is not verified; if the server speaks no TLS, plain HTTP is used.
        plain_http: whether plain HTTP is used, and no TLS.
        ca: a file with certificates that sign the server's, in PEM, in addition to the system's.
        client_cert: a file with the certificate that is shown to the server, in PEM.
        client_key: a file with its key, in PEM; without it, the key is in `client_cert`.
    """

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    plain_http: bool = False
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
