"""One server of a registry, or a mirror of it: its connections and tokens, and how it has behaved."""

from __future__ import annotations

import time
from typing import Final

from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.call import Call
from layerstore_core.registry.http.connections import Connections
from layerstore_core.registry.http.urls import origin

#: How long a mirror that failed is not asked again, in seconds.
_REST: Final = 60.0


class Server:
    """One server.

    Args:
        endpoint: its address.
        timeout: its longest silence in seconds.

    Attributes:
        answered: whether it has given an answer that was a result.
        unreachable: whether the last attempt found no server there, or one that does not speak TLS.
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.endpoint = endpoint
        self.answered = False
        self.unreachable = False
        self._connections = Connections(endpoint, timeout)
        self._origin = origin(endpoint.url)
        self._rests_until = 0.0

    def serves(self, call: Call) -> bool:
        """Return whether it may be asked for this."""
        return self.endpoint.digests if call.by_digest else self.endpoint.tags

    def rest(self) -> None:
        """Do not ask it for a while."""
        self._rests_until = time.monotonic() + _REST

    def rests(self) -> bool:
        """Return whether it is not to be asked now."""
        return time.monotonic() < self._rests_until

    def close(self) -> None:
        """Close its connections that are not in use."""
        self._connections.close()

    def send(self, call: Call, url: str) -> Answer:
        """Send a request to it, or to another server that it refers to, which gets no credentials."""
        body = call.body() if callable(call.body) else call.body
        own = origin(url) == self._origin
        return self._connections.send(call.method, url, call.headers, body, own=own)
