"""Connections to the servers of one endpoint: pools of urllib3, with TLS and proxies."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from urllib3 import PoolManager, ProxyManager, Timeout, make_headers

from layerstore_core._version import __version__
from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.bounded import POOLS
from layerstore_core.registry.http.reasons import failing
from layerstore_core.registry.http.tls import silence_warnings, tls_context
from layerstore_core.registry.http.urls import origin
from layerstore_core.registry.proxies import proxy_for

#: How many idle connections to one server are kept: as many as a pull or push uses at once.
_KEPT: Final = 16
_CONNECT_TIMEOUT: Final = 10.0
_HEADERS: Final = {"User-Agent": f"layerstore/{__version__}", "Accept-Encoding": "identity"}

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class Connections:
    """The connections to an endpoint, and to other hosts that it refers to. Threads share them.

    Args:
        endpoint: the endpoint.
        timeout: the longest silence of a server in seconds.
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._lock = threading.Lock()
        self._origin = origin(endpoint.url)
        #: By whether they are for the endpoint itself and encrypt, and by the proxy.
        self._managers: dict[tuple[bool, bool, str | None], PoolManager] = {}
        #: By scheme, host and port.
        self._proxies: dict[tuple[str, str, int | None], str | None] = {}

    def send(
        self, method: Method, url: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None
    ) -> Answer:
        """Send a request, and return the answer, whose body is not read yet. Nothing is tried again or followed.

        Args:
            method: the method.
            url: the whole URL, at this endpoint or elsewhere.
            headers: the headers of the request.
            body: the body; pieces need the header `Content-Length`.

        Raises:
            ConnectionFailed: there is no answer.
            ConfigError: a certificate or the proxy cannot be used.
        """
        manager = self._manager(url)
        with failing(self._timeout):
            response = manager.urlopen(
                method,
                url,
                body=body,
                headers={**_HEADERS, **headers},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        return Answer(response, url, self._timeout)

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._lock:
            managers = [*self._managers.values()]
        for manager in managers:
            # `clear` alone leaves them to the garbage collector, which finds those of a failed call much later.
            keys = manager.pools.keys()
            for key in keys:
                if (pool := manager.pools.get(key)) is not None:
                    pool.close()
            manager.clear()

    def _manager(self, url: str) -> PoolManager:
        server = origin(url)
        with self._lock:
            if server not in self._proxies:
                self._proxies[server] = proxy_for(url)
                if server[0] == "https" and not self._endpoint.verify:
                    silence_warnings(server[1])
            key = server == self._origin, server[0] == "https", self._proxies[server]
            if key not in self._managers:
                self._managers[key] = self._new_manager(*key)
            return self._managers[key]

    def _new_manager(self, own: bool, encrypted: bool, proxy: str | None) -> PoolManager:
        options: dict[str, Any] = {
            "num_pools": 8,
            "maxsize": _KEPT,
            "timeout": Timeout(connect=min(self._timeout, _CONNECT_TIMEOUT), read=self._timeout),
        }
        if encrypted:
            # Reading the system's certificates takes longer than a request.
            options["ssl_context"] = tls_context(self._endpoint, own=own)
        if proxy is None:
            manager = PoolManager(**options)
        else:
            parts = urlsplit(proxy)
            user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else None
            manager = ProxyManager(
                parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
                proxy_headers=make_headers(proxy_basic_auth=user),
                **options,
            )
        manager.pool_classes_by_scheme = POOLS
        return manager
