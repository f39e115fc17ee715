"""The settings of one registry: a table `[registries."HOST"]` of the configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from layerstore_core.base.paths import expanded
from layerstore_core.base.reference import is_registry

_MIRROR: Final = re.compile(r"(?:(https?)://)?([^/?#@\s]+)((?:/[A-Za-z0-9._~-]+)*)/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a mirror.

    Attributes:
        scheme: `http` or `https`; empty if it is not given.
        host: the host, with its port if that is given.
        path: what goes before the names of repositories, without slashes at its ends.
    """

    scheme: str
    host: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `HOST[:PORT][/PATH]`, with or without a scheme before it.

        Raises:
            ValueError: the text has another form.
        """
        match = _MIRROR.fullmatch(text)
        if match is None or not is_registry(match[2]):
            raise ValueError(f"{text!r} is no address of a mirror; its form is HOST[:PORT][/PATH], or a URL")
        return cls(match[1] or "", match[2], match[3].strip("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """The settings of one registry, or of one mirror.

    Attributes:
        mirrors: where it is read from first, in this order: `"HOST[:PORT][/PATH]"`, or a URL. The path goes before the
            names of repositories.
        insecure: whether the server's certificate is not verified. Plain HTTP is used if the server speaks no TLS.
        plain_http: whether it speaks plain HTTP, and no TLS; `None`: if it is this machine, and no file of
            certificates is given or found for it.
        ca: a file with certificates that sign the server's, in PEM. The system's are known besides.
        client_cert: a file with the certificate that the server is shown, in PEM.
        client_key: a file with the key of `client_cert`, in PEM; without it, the key is in the same file.
    """

    #: For pydantic: a key that there is not is an error.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    plain_http: bool | None = None
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None

    def __post_init__(self) -> None:
        """Check the settings, and expand `~` in paths.

        Raises:
            ValueError: one cannot be used, or two contradict each other.
        """
        for mirror in self.mirrors:
            Address.parse(mirror)
        for name in ("ca", "client_cert", "client_key"):
            if (path := getattr(self, name)) is not None:
                whole = expanded(Path(path))
                if not whole.is_absolute():
                    raise ValueError(f"{name} = {os.fspath(path)!r}: give an absolute path, or one that begins with ~/")
                object.__setattr__(self, name, whole)
        if self.client_key and not self.client_cert:
            raise ValueError("client_key is given without client_cert; give both")
        if self.plain_http and (self.insecure or self.ca or self.client_cert):
            raise ValueError("plain_http excludes insecure, ca and client_cert, which are for TLS")

    def given(self) -> dict[str, Any]:
        """Return the settings that are not the default, by name."""
        values = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}


def check_hosts(hosts: Mapping[str, object]) -> None:
    """Check the names of tables.

    Raises:
        ValueError: one is not the address of a registry.
    """
    for host in hosts:
        if not is_registry(host):
            raise ValueError(f"{host!r} is not the address of a registry; give HOST or HOST:PORT, without a path")
