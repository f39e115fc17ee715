"""One server of a registry, or a mirror of it: its connections and tokens, and how it has behaved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from layerstore_core.registry.credentials import Credentials
from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.auth import Authenticator
from layerstore_core.registry.http.broken import ConnectionFailed
from layerstore_core.registry.http.call import Call
from layerstore_core.registry.http.connections import Connections, Method
from layerstore_core.registry.http.secrets import Secrets
from layerstore_core.registry.http.tokens import TokenServer
from layerstore_core.registry.http.urls import origin

#: How long a mirror is not asked again after its first failure, in seconds. Each further one doubles that.
_FIRST_REST: Final = 2.0
_LONGEST_REST: Final = 60.0
#: How often a request is sent until its 401 counts: with no token, with one that has ended, with a new one.
_ATTEMPTS: Final = 3


class Server:
    """One server.

    Args:
        host: the registry that it belongs to, for messages.
        endpoint: its address.
        timeout: its longest silence in seconds.
        credentials: returns the credentials for a repository of a host, or `None`.

    Attributes:
        answered: whether it has given an answer that was a result.
        secrets: what was sent to it, and is not to be shown.
    """

    def __init__(
        self, host: str, endpoint: Endpoint, timeout: float, credentials: Callable[[str, str], Credentials | None]
    ) -> None:
        self.endpoint = endpoint
        self.answered = False
        self.secrets = Secrets()
        self._connections = Connections(endpoint, timeout)
        self._origin = origin(endpoint.url)
        self._rests_until = 0.0
        self._next_rest = _FIRST_REST
        encrypted = urlsplit(endpoint.url).scheme == "https"
        self._auth = Authenticator(
            lambda name: credentials(
                endpoint.credentials_key or endpoint.host, endpoint.repository(name) if name else ""
            ),
            TokenServer(host, encrypted, self._send_elsewhere, self.secrets),
            self.secrets,
        )

    def serves(self, call: Call) -> bool:
        """Return whether it may be asked for this: it knows what it named itself, and is trusted with it."""
        if call.url and not self.is_own(call.url):
            return False
        return self.endpoint.digests if call.by_digest else self.endpoint.tags

    def works(self) -> None:
        """Note that it has given a result."""
        self.answered = True
        self._next_rest = _FIRST_REST

    def rest(self) -> bool:
        """Do not ask it for a while if it is a mirror, and return whether it is one.

        The first pause is short: perhaps this machine's own network was gone for a moment.
        """
        if self.endpoint.mirror:
            self._rests_until = time.monotonic() + self._next_rest
            self._next_rest = min(2 * self._next_rest, _LONGEST_REST)
        return self.endpoint.mirror

    def distrust(self) -> bool:
        """Do not ask it for long if it is a mirror, because what it sent is wrong; return whether it is one."""
        self._next_rest = _LONGEST_REST
        return self.rest()

    def rests(self) -> bool:
        """Return whether it is not to be asked now."""
        return time.monotonic() < self._rests_until

    def is_own(self, url: str) -> bool:
        """Return whether a URL is one of this server itself."""
        return origin(url) == self._origin

    def close(self) -> None:
        """Close its connections that are not in use."""
        self._connections.close()

    def credentials(self, call: Call) -> Credentials | None:
        """Return the credentials for a request; `None` if there are none."""
        return self._auth.credentials(call.repository)

    def send(self, call: Call, url: str) -> Answer:
        """Send a request to it, or to another server that it refers to, which gets no credentials.

        Raises:
            ConnectionFailed: there is no answer.
            RegistryError: its token server refuses.
        """
        if not self.is_own(url):
            try:
                return self._connections.send(call.method, url, call.headers, call.new_body())
            except ConnectionFailed as error:
                # This server is there.
                reason = f"{urlsplit(url).netloc}, where it leads to: {error.reason}"
                raise ConnectionFailed(reason, lasting=error.lasting) from None
        repository, scopes = call.repository, call.scopes_at(self.endpoint)
        attempt = 1
        while True:
            header = self._auth.header(repository, scopes)
            headers = {**self.endpoint.headers, **call.headers, **({"Authorization": header} if header else {})}
            answer = self._connections.send(call.method, url, headers, call.new_body())
            if answer.status != 401 or attempt == _ATTEMPTS:
                return answer
            if not self._auth.learn(answer, repository, scopes, header):
                return answer
            answer.close()
            attempt += 1

    def _send_elsewhere(self, method: Method, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        return self._connections.send(method, url, headers, body)
