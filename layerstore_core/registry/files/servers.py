"""How a server is reached: with TLS or without, and with which certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from layerstore_core.base.reference import is_registry
from layerstore_core.config.registries import HostSettings
from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.files.certificates import Certificates, certificates_of

#: The settings of registries, by host and port: the setting `registries` of the configuration.
RegistrySettings = Mapping[str, HostSettings]

#: The name of Docker Hub in names of images, and the host that serves it.
HUB: Final = "docker.io"
HUB_SERVER: Final = "registry-1.docker.io"
_HUB_NAMES: Final = (HUB, "index.docker.io", HUB_SERVER)


def names_of(host: str) -> tuple[str, ...]:
    """Return all names of a registry: Docker Hub has several."""
    return _HUB_NAMES if host in _HUB_NAMES else (host,)


def settings_of(host: str, settings: RegistrySettings) -> HostSettings | None:
    """Return the settings of a registry or mirror; `None` if it has no table."""
    return next((settings[name] for name in names_of(host) if name in settings), None)


def reach(
    host: str,
    settings: RegistrySettings,
    applied: str,
    *,
    scheme: str = "",
    path: str = "/v2",
    insecure: bool = False,
    certificates: Certificates | None = None,
    **attributes: Any,
) -> list[Endpoint]:
    """Return the endpoints of one server: one, or two if it is not known whether it speaks TLS.

    Args:
        host: the server, with its port if that is given.
        settings: our own tables; that of the server goes before the arguments.
        applied: what made the caller ask for this server.
        scheme: `http` or `https`; empty if it is not known.
        path: the path of the API.
        insecure: whether its certificate is not verified, and plain HTTP is used if it speaks no TLS.
        certificates: its certificates; `None` for those of the `certs.d` directories.
        attributes: further attributes of the endpoints.

    Raises:
        ConfigError: a directory of certificates cannot be used.
    """
    reasons = [applied]
    ca: tuple[Path, ...] = ()
    cert: Path | None = None
    key: Path | None = None
    own = settings_of(host, settings)
    if own is not None:
        insecure = own.insecure
        reasons.append(own_source(host))
    if own is not None and (own.ca or own.client_cert):
        ca, cert, key = (own.ca,) if own.ca else (), own.client_cert, own.client_key
    elif found := certificates or certificates_of(names_of(host)):
        ca, cert, key = found.ca, found.client_cert, found.client_key
        if ca or cert:
            reasons.append(str(found.directory))
    has_certificates = bool(ca or cert)
    plain = scheme == "http" or (
        own.plain_http
        if own is not None and own.plain_http is not None
        else not scheme and not insecure and not has_certificates and is_loopback(host)
    )
    server = HUB_SERVER if host in _HUB_NAMES else host
    common: dict[str, Any] = {
        "host": server,
        "credentials_key": HUB if host in _HUB_NAMES else host,
        "applied": tuple(dict.fromkeys(reasons)),
        **attributes,
    }
    with_tls = Endpoint(
        url=f"https://{server}{path}", verify=not insecure, ca=ca, client_cert=cert, client_key=key, **common
    )
    without = Endpoint(url=f"http://{server}{path}", plain_after_tls=not plain, **common)
    if plain:
        return [without]
    return [with_tls, without] if insecure and scheme != "https" else [with_tls]


def own_source(host: str) -> str:
    """Return the words for our own table of a registry."""
    return f'[registries."{host}"]'


def split_url(text: str) -> tuple[str, str, str] | None:
    """Return scheme, host and path of a server's URL, the path without a slash at its end; `None` if it is none."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not is_registry(parts.netloc) or parts.query or parts.fragment:
        return None
    return parts.scheme, parts.netloc, parts.path.rstrip("/")


def without_repeats(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Return endpoints, each once: a list of mirrors may name the registry itself."""
    found: dict[Hashable, Endpoint] = {}
    for one in endpoints:
        found.setdefault(one.key, one)
    return list(found.values())


def is_loopback(host: str) -> bool:
    """Return whether a host, with or without a port, is this machine: `localhost`, 127.0.0.0/8 or `[::1]`."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
