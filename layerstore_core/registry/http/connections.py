"""Connections to the servers of one endpoint: pools of urllib3, with TLS and proxies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from urllib3 import PoolManager, Timeout

from layerstore_core._version import __version__
from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.reasons import failing

#: How many idle connections to one server are kept: as many as a pull or push uses at once.
_KEPT: Final = 16
_CONNECT_TIMEOUT: Final = 10.0

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
        self._pools: dict[bool, PoolManager] = {}

    def send(
        self, method: Method, url: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None, *, own: bool
    ) -> Answer:
        """Send a request, and return the answer, whose body is not read yet. Nothing is tried again or followed.

        Args:
            method: the method.
            url: the whole URL.
            headers: the headers of the request.
            body: the body; pieces need the header `Content-Length`.
            own: whether the URL is the endpoint's own, and not one of another host: only this gets its certificate.

        Raises:
            ConnectionFailed: there is no answer.
        """
        with failing(self._timeout):
            response = self._pool(own).urlopen(
                method,
                url,
                body=body,
                headers={"User-Agent": f"layerstore/{__version__}", "Accept-Encoding": "identity", **headers},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        return Answer(response, url, self._timeout)

    def close(self) -> None:
        """Close all connections that are not in use."""
        for manager in self._pools.values():
            # `clear` alone leaves them to the garbage collector, which finds those of a failed call much later.
            keys = manager.pools.keys()
            for key in keys:
                if (pool := manager.pools.get(key)) is not None:
                    pool.close()
            manager.clear()

    def _pool(self, own: bool) -> PoolManager:
        if own not in self._pools:
            self._pools[own] = self._new_pool(own)
        return self._pools[own]

    def _new_pool(self, own: bool) -> PoolManager:
        return PoolManager(
            num_pools=8,
            maxsize=_KEPT,
            timeout=Timeout(connect=min(self._timeout, _CONNECT_TIMEOUT), read=self._timeout),
        )
