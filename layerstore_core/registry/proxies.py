"""Proxies from the environment, by the rules of Go's `golang.org/x/net/http/httpproxy`, as Docker and podman have them.

The variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY are read, or the same in lower case. This machine is never asked
through a proxy.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Final
from urllib.parse import urlsplit

from layerstore_core.errors import ConfigError
from layerstore_core.registry.files.servers import is_loopback

_SCHEMES: Final = ("http", "https")
_PORTS: Final = {"http": "80", "https": "443"}


def proxy_for(url: str) -> str | None:
    """Return the URL of the proxy for a request; `None` for none. It may hold a password: do not show it.

    Args:
        url: the URL of the request.

    Raises:
        ConfigError: the variable does not hold the address of a proxy.
    """
    scheme = url.partition(":")[0]
    if scheme == "http" and os.environ.get("REQUEST_METHOD"):
        return None  # a CGI program: HTTP_PROXY comes from a header of a request
    name, proxy = _variable(f"{scheme.upper()}_PROXY")
    if not proxy or _is_excluded(url, _variable("NO_PROXY")[1]):
        return None
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme in _SCHEMES and parts.hostname and parts.port != 0:
            return parts.geturl()
    except ValueError:
        pass
    raise ConfigError(
        f"the variable {name} does not hold the address of a proxy that can be used; its form is http://HOST:PORT"
    )


def without_password(url: str) -> str:
    """Return the URL of a proxy without user and password, to be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _variable(name: str) -> tuple[str, str]:
    """Return the name and the value of a variable in upper or in lower case."""
    for one in (name, name.lower()):
        if value := os.environ.get(one):
            return one, value.strip()
    return name, ""


def _is_excluded(url: str, excluded: str) -> bool:
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = str(parts.port) if parts.port else _PORTS.get(parts.scheme, "")
    if is_loopback(f"[{host}]" if ":" in host else host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    return any(_excludes(entry.strip().lower(), host, port, address) for entry in excluded.split(","))


def _excludes(entry: str, host: str, port: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    """Return whether one entry of `NO_PROXY` is for a host."""
    if not entry:
        return False
    if entry == "*":
        return True
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted = _split_port(entry)
    if wanted and wanted != port:
        return False
    if address is not None:
        try:
            return address == ipaddress.ip_address(name)
        except ValueError:
            return False
    name = name.removeprefix("*")
    if name.startswith("."):  # the hosts below the name, and not the name
        return host.endswith(name)
    return host == name or host.endswith(f".{name}")


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        return name, port.removeprefix(":")
    if entry.count(":") > 1:
        return entry, ""  # an IPv6 address
    name, _, port = entry.partition(":")
    return name, port
