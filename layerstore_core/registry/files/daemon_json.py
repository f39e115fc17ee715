"""`daemon.json` of Docker: mirrors of Docker Hub, and registries whose certificates are not verified."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.files.reading import Table, in_home, in_system, read_json
from layerstore_core.registry.files.servers import HUB, RegistrySettings, reach, split_url
from layerstore_core.rootless.rights import acts_for_root


def daemon_json() -> Path | None:
    """Return the file: a user's own daemon's, if it has one, or the system's; `None` if there is none."""
    return next((path for path in _files() if os.path.exists(path)), None)


def endpoints(host: str, settings: RegistrySettings) -> list[Endpoint] | None:
    """Return where the requests for a registry go; `None` if the file does not name it.

    Raises:
        ConfigError: the file is damaged.
    """
    path = daemon_json()
    document = read_json(path) if path else None
    if path is None or document is None:
        return None
    table = Table(path, document)
    mirrors = (table.texts("registry-mirrors") or []) if host == HUB else []
    insecure = table.texts("insecure-registries") or []
    made: list[Endpoint] = []
    for mirror in mirrors:
        parts = split_url(mirror)
        if parts is None:
            table.refuse("registry-mirrors", f"has {mirror!r}, which is not the URL of a server")
        scheme, server, base = parts
        risky = _is_listed(server, insecure)
        made += reach(
            server,
            settings,
            f"{path} (registry-mirrors)",
            scheme="" if risky else scheme,
            path=f"{base}/v2",
            insecure=risky,
            mirror=True,
        )
    risky = _is_listed(host, insecure)
    if not made and not risky:
        return None
    applied = f"{path} (insecure-registries)" if risky else f"{path} (registry-mirrors)"
    return [*made, *reach(host, settings, applied, insecure=risky)]


def _files() -> Iterator[Path]:
    if not acts_for_root():
        yield from in_home(".config", "docker", "daemon.json")
    yield in_system("docker", "daemon.json")


def _is_listed(host: str, listed: list[str]) -> bool:
    """Return whether a host is in a list of hosts and networks; names of hosts are not resolved."""
    if host in listed:
        return True
    try:
        address = ipaddress.ip_address(host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0])
    except ValueError:
        return False
    return any(address in network for network in map(_network, listed) if network is not None)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text) if "/" in text else None
    except ValueError:
        return None
