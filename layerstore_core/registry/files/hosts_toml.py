"""The file hosts.toml of containerd, one for each registry below `/etc/containerd/certs.d`.

The format is in containerd's docs/hosts.md. A directory without that file may have certificates, as Docker's do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.files.certificates import Certificates, certificates_in
from layerstore_core.registry.files.reading import Table, damaged, in_system, read_toml
from layerstore_core.registry.files.servers import (
    HUB,
    HUB_SERVER,
    RegistrySettings,
    is_loopback,
    names_of,
    reach,
    split_url,
)

_NAME: Final = "hosts.toml"
_DEFAULT: Final = "_default"


def containerd_directory(host: str) -> Path | None:
    """Return the directory of a registry; `None` if it has none, and there is none for all."""
    return next((path for path in _candidates(host) if os.path.isdir(path)), None)


def endpoints(host: str, settings: RegistrySettings) -> list[Endpoint] | None:
    """Return where the requests for a registry go; `None` if there is no file for it.

    Raises:
        ConfigError: the file is damaged.
    """
    directory = containerd_directory(host)
    if directory is None:
        return None
    path = directory / _NAME
    document = read_toml(path)
    if document is None:
        found = certificates_in(directory)
        if found is None or not (found.ca or found.client_cert):
            return None
        return reach(host, settings, str(directory), certificates=found)
    table = Table(path, document)
    made: list[Endpoint] = []
    hosts = table.table("host")
    for address in hosts.values:
        made += _server(host, address, hosts.table(address), settings, mirror=True)
    server = table.text("server")
    if server:
        return [*made, *_server(host, server, table, settings, mirror=False)]
    return [*made, *_server(host, "", table, settings, mirror=False)]


def _candidates(host: str) -> Iterator[Path]:
    base = in_system("containerd", "certs.d")
    for name in names_of(host):
        server, colon, port = name.rpartition(":")
        if colon:
            yield base / f"{server}_{port}_"
        yield base / name
    yield base / _DEFAULT


def _server(host: str, address: str, table: Table, settings: RegistrySettings, *, mirror: bool) -> list[Endpoint]:
    """Return the endpoints of one server; `address` is empty for the registry itself."""
    override = table.flag("override_path")
    skip_verify = table.flag("skip_verify")
    # Other than elsewhere, a server that is not verified has to speak TLS.
    scheme, server, path = "https" if skip_verify and not is_loopback(host) else "", host, ""
    if address:
        parts = split_url(address if "://" in address else f"https://{address}")
        if parts is None:
            raise damaged(table.path, f"{address!r} is not the URL of a server")
        scheme, server, path = parts
    if not override and not path.endswith("/v2"):
        path += "/v2"
    capabilities = table.texts("capabilities")
    can = {"pull", "resolve", "push"} if capabilities is None else set(capabilities)
    proxied = server != host and not (host == HUB and server == HUB_SERVER)
    return reach(
        server,
        settings,
        str(table.path),
        scheme=scheme,
        path=path,
        insecure=skip_verify,
        certificates=_certificates(table),
        mirror=mirror,
        tags={"resolve", "pull"} <= can,
        digests="pull" in can,
        query={"ns": host} if proxied else {},
        headers=_headers(table),
    )


def _certificates(table: Table) -> Certificates | None:
    """Return the certificates that a table names; paths are relative to the file."""
    here = table.path.parent
    ca = tuple(here / name for name in table.texts("ca") or ())
    client = table.values.get("client")
    pair: tuple[Path | None, Path | None] = (None, None)
    if client is not None:
        first: Any = client[0] if isinstance(client, list) and client else client
        names = first if isinstance(first, list) else [first]
        if not 1 <= len(names) <= 2 or not all(isinstance(name, str) for name in names):
            table.refuse("client", "is not a file, a list of files, or a list of pairs of files")
        pair = (here / names[0], here / names[1] if len(names) == 2 and names[1] else None)
    return Certificates(ca, *pair, table.path) if ca or pair[0] else None


def _headers(table: Table) -> dict[str, str]:
    header = table.table("header")
    return {name: ", ".join(header.texts(name) or ()) for name in header.values}
