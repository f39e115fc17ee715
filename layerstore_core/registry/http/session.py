"""Requests to one registry: to its mirrors and itself, with authentication, redirects, and again after failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Final, TypeVar
from urllib.parse import urlsplit

from layerstore_core.log import logger
from layerstore_core.registry.credentials import Credentials, credentials_for
from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.errors import InvalidAnswer, NotInRegistry, RegistryError, RegistryUnavailable
from layerstore_core.registry.hosts import RegistrySettings, canonical_host, endpoints_of
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.broken import ConnectionFailed, TooLong
from layerstore_core.registry.http.call import Call
from layerstore_core.registry.http.failures import error_of, warnings_in
from layerstore_core.registry.http.retries import TRY_AGAIN, Pauses, RetryPolicy
from layerstore_core.registry.http.server import Server
from layerstore_core.registry.http.urls import BadURL, is_encrypted, join, shown
from layerstore_core.text import printable

Result = TypeVar("Result")

_MAX_REDIRECTS: Final = 10
#: From how many seconds on a pause that a server asks for is shown.
_LONG: Final = 5.0
#: How many texts of warnings are shown.
_MAX_WARNINGS: Final = 20
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Session:
    """The state of a client: connections, tokens, and which servers failed. Threads share it.

    Args:
        host: the registry.
        settings: settings of registries, by host.
        timeout: the longest silence of a server in seconds.
        credentials: those for the registry, whatever the files say; `None` for those of the files.
        policy: how requests are made again.
    """

    def __init__(
        self,
        host: str,
        settings: RegistrySettings | None,
        timeout: float,
        credentials: Credentials | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self.host = host
        self._settings = settings
        self._timeout = timeout
        self._given = credentials
        self.policy = policy or RetryPolicy()
        self._endpoints: dict[str, list[Endpoint]] = {}
        self._servers: dict[Hashable, Server] = {}
        self._warned: set[str] = set()
        self._closing = threading.Event()
        self._lock = threading.Lock()

    def pauses(self, attempts: int | None = None) -> Pauses:
        """Return the pauses for something that is tried again."""
        return Pauses(self.policy, self._closing, attempts)

    def close(self) -> None:
        """Close all connections that are not in use, and give up what waits for its next attempt."""
        with self._lock:
            servers, self._servers = [*self._servers.values()], {}
            closing, self._closing = self._closing, threading.Event()
        closing.set()
        for server in servers:
            server.close()

    def read(self, call: Call, result: Callable[[Answer], Result]) -> Result:
        """Ask the mirrors in their order, and then the registry.

        Args:
            call: what is asked for.
            result: makes the result of an answer whose status is one of `call.accept`. It closes the answer, or takes
                it over. If it raises `ConnectionFailed`, the request is made again.

        Raises:
            RegistryError: none of them gave it.
        """
        return self._ask_all(
            [server for server in self._servers_for(call.repository) if server.serves(call)], call, result
        )

    def write(self, call: Call, result: Callable[[Answer], Result]) -> Result:
        """Ask the registry itself, and no mirror; as `read` otherwise."""
        servers = [server for server in self._servers_for(call.repository) if not server.endpoint.mirror]
        return self._ask_all(servers, call, result)

    def _ask_all(self, servers: list[Server], call: Call, result: Callable[[Answer], Result]) -> Result:
        failure: RegistryError | None = None
        tls_failed = False
        for server in servers:
            if server.rests() or (server.endpoint.plain_after_tls and not server.answered and not tls_failed):
                continue
            try:
                return self._ask(server, call, result)
            except RegistryError as error:
                failure = error
                cause = error.__cause__
                tls_failed = isinstance(cause, ConnectionFailed) and cause.no_server and not server.answered
                if not server.endpoint.mirror and not tls_failed:
                    raise
                if not isinstance(error, NotInRegistry):
                    server.rest()
                    logger.info("{}", error)
        raise failure or RegistryError(
            self.host, f"cannot {call.what}: the configuration names no server to ask for it"
        )

    def _ask(self, server: Server, call: Call, result: Callable[[Answer], Result]) -> Result:
        """Ask one server, again after failures that may pass."""
        pauses = self.pauses(self.policy.attempts if call.again else 1)
        while True:
            wait = None
            try:
                answer = self._follow(server, call)
                self._show_warnings(answer)
                if answer.status in call.accept:
                    server.works()
                    answer.rest, answer.distrust = server.rest, server.distrust
                    return result(answer)
                with answer:
                    failure = self._failure(server, call, answer)
                wait = failure.retry_after
                if server.endpoint.mirror:
                    # The next server is asked at once.
                    raise failure
            except ConnectionFailed as error:
                failure = RegistryUnavailable(self.host, f"cannot {call.what}: {self._named(server)}{error.reason}")
                failure.__cause__ = error
                wait = error.pause
                if error.lasting:
                    raise failure from error
                if server.endpoint.mirror:
                    pauses.limit(1 if error.no_server else 2)
                elif error.no_server and not server.answered:
                    # It has never been there: that it comes up in these seconds is unlikely.
                    pauses.limit(2)
            except TooLong as error:
                raise InvalidAnswer(self.host, f"cannot {call.what}: the answer has more than {error} bytes") from None
            if wait is not None and wait >= _LONG:
                logger.warning("{}", failure)
            else:
                logger.debug("{}", failure)
            if not pauses.wait(wait):
                raise failure

    def _failure(self, server: Server, call: Call, answer: Answer) -> RegistryError:
        """Return the error for an answer that is no result, if it may pass; raise it if it will not."""
        if not server.is_own(answer.url):
            # Most likely the address has ended that the registry gave. The next attempt gets another.
            storage = urlsplit(answer.url).netloc
            return RegistryUnavailable(
                self.host,
                f"cannot {call.what}: {storage}, where the registry leads to, answers HTTP {answer.status}",
                status=answer.status,
            )
        failure = error_of(self.host, call.what, answer, server.secrets, server.credentials(call))
        if answer.status not in TRY_AGAIN:
            raise failure
        return failure

    def _show_warnings(self, answer: Answer) -> None:
        """Log what a server wants its users to know, once."""
        header = answer.header("Warning")
        if not header:
            return
        for text in warnings_in(header):
            with self._lock:
                if text in self._warned or len(self._warned) >= _MAX_WARNINGS:
                    continue
                self._warned.add(text)
            logger.warning("{} says: {}", self.host, printable(text, backslash=False))

    def _follow(self, server: Server, call: Call) -> Answer:
        """Send a request, and follow redirects. Each attempt begins at the registry: redirects are valid for a time."""
        url = call.url_at(server.endpoint)
        for _ in range(_MAX_REDIRECTS + 1):
            answer = server.send(call, url)
            if answer.status not in _REDIRECTS or call.method not in ("GET", "HEAD"):
                return answer
            with answer:
                try:
                    before, url = url, join(url, answer.header("Location"))
                except BadURL as error:
                    raise self._refused(call, f"it redirects to a wrong URL: {error}") from None
            if is_encrypted(before) and not is_encrypted(url) and not call.by_digest:
                # A program in between could answer with anything.
                raise self._refused(call, f"it redirects to {shown(url)}, which is not encrypted")
        raise self._refused(call, f"it redirects more than {_MAX_REDIRECTS} times, at last to {shown(url)}")

    def _credentials(self, host: str, repository: str) -> Credentials | None:
        """Return the credentials at one server: those that were given are for the registry, and not for a mirror."""
        given = self._given if host == canonical_host(self.host) else None
        return given or credentials_for(host, repository)

    def _refused(self, call: Call, reason: str) -> InvalidAnswer:
        return InvalidAnswer(self.host, f"cannot {call.what}: {reason}")

    def _named(self, server: Server) -> str:
        return f"{server.endpoint.host}: " if server.endpoint.host != self.host else ""

    def _servers_for(self, repository: str) -> list[Server]:
        with self._lock:
            if repository not in self._endpoints:
                self._endpoints[repository] = endpoints_of(self.host, self._settings, repository)
            found = []
            for endpoint in self._endpoints[repository]:
                if endpoint.key not in self._servers:
                    self._servers[endpoint.key] = Server(self.host, endpoint, self._timeout, self._credentials)
                found.append(self._servers[endpoint.key])
        # A server that has answered in plain HTTP, because it has no TLS, is asked in plain HTTP from then on.
        plain = {server.endpoint.host for server in found if server.answered and server.endpoint.plain_after_tls}
        return [
            server
            for server in found
            if server.answered or server.endpoint.plain_after_tls or server.endpoint.host not in plain
        ]
