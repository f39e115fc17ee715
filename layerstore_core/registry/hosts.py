"""Where the requests for a repository go: the registry's mirrors, and then the registry."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from layerstore_core.config.registries import HostSettings
from layerstore_core.registry.endpoint import Endpoint

__all__ = ["HUB", "Endpoint", "RegistrySettings", "endpoints_of", "is_loopback"]

#: The settings of registries, by host and port: the setting `registries` of the configuration.
RegistrySettings = Mapping[str, HostSettings]

#: The name of Docker Hub in names of images, and the host that serves it.
HUB: Final = "docker.io"
_HUB_SERVER: Final = "registry-1.docker.io"
_HUB_NAMES: Final = frozenset({HUB, "index.docker.io", _HUB_SERVER})


def endpoints_of(host: str, settings: RegistrySettings | None = None, repository: str = "") -> list[Endpoint]:
    """Return where the requests for a repository go, in the order in which they are tried.

    A read tries all of them. A write goes to the registry itself, never to a mirror.

    Args:
        host: the registry, as in names of images: `docker.io`, `registry.example.com:5000`.
        settings: the settings of registries; `None` for those of the configuration files.
        repository: the repository, such as `library/debian`; some files have other mirrors for some repositories.
    """
    own = (settings or {}).get(host, HostSettings())
    server = _HUB_SERVER if host in _HUB_NAMES else host
    plain = own.plain_http or is_loopback(server)
    return [
        Endpoint(
            url=f"{'http' if plain else 'https'}://{server}/v2",
            host=server,
            credentials_key=HUB if host in _HUB_NAMES else host,
            ca=(own.ca,) if own.ca else (),
            client_cert=own.client_cert,
            client_key=own.client_key,
            verify=not own.insecure,
            applied=("default",),
        )
    ]


def is_loopback(host: str) -> bool:
    """Return whether a host, with or without a port, is this machine: `localhost`, 127.0.0.0/8 or `[::1]`."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
