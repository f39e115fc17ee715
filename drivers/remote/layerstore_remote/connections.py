"""Calls over kept-alive connections to one server: as many connections as there are calls at the same time."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from layerstore_remote.bodies import HTTP_ERRORS, open_body, read_whole, send_chunks
from layerstore_remote.failures import Failures, Lost
from layerstore_remote.sockets import UnixConnection

if TYPE_CHECKING:
    from layerstore_core import LayerStream

_ACCEPT: Final = "application/vnd.docker.plugins.v1.2+json"
#: Bytes of headers and of the framing of a body that are allowed in addition to the body itself.
_HEADERS: Final = 1 << 18
_SHORT_ANSWER: Final = 1 << 20
#: Connections beyond this number are not kept.
_KEPT: Final = 16
_OK: Final = 200


class Connections:
    """The connections of one process to a server. A forked child makes its own.

    Args:
        address: the path of the socket.
        connect_timeout: how many seconds to wait for a server that does not listen.
        timeout: how many seconds the server may take for an answer.
        greet: called with each new connection, before it is used.
    """

    def __init__(
        self, address: str, connect_timeout: float, timeout: float, greet: Callable[[UnixConnection], None]
    ) -> None:
        self.address: Final = address
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._greet = greet
        self._failures = Failures(address, timeout)
        self._idle: list[UnixConnection] = []
        self._lock = Lock()
        self._process = os.getpid()

    def close(self) -> None:
        """Close the connections that no call uses."""
        with self._lock:
            idle = self._idle[:]
            self._idle.clear()
        for connection in idle:
            connection.close()

    # Calls

    def call(self, method: str, body: bytes, limit: int, *, repeatable: bool) -> tuple[int, bytes]:
        """Post a document, and return the status and the body of the answer.

        Args:
            method: the name of the method, which is the path.
            body: the document.
            limit: how many bytes the answer's body may have.
            repeatable: whether the call may be made again on a new connection. It is, if the server has closed an old
                one: it may have been started again.

        Raises:
            ServerUnavailable: there is no server, or it has ended, or did not answer in time.
            BadAnswer: the answer is too long, or no HTTP.
        """
        connection = self.take()
        again = repeatable and connection.used
        try:
            answer = self.call_on(connection, method, body, limit)
        except Lost:
            connection.close()
            if not again:
                raise self._failures.lost(method) from None
            self.close()
            return self.call(method, body, limit, repeatable=False)
        except BaseException:
            connection.close()
            raise
        self.give_back(connection)
        return answer

    def call_on(self, connection: UnixConnection, method: str, body: bytes, limit: int) -> tuple[int, bytes]:
        """Make a call on a connection, without a second attempt. See `call`.

        Raises:
            Lost: the connection ended before there was an answer.
        """
        with self._exchange(connection, method, limit, whole=True):
            _begin(connection, method)
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, read_whole(response, limit)

    def send_stream(self, method: str, query: dict[str, str], stream: LayerStream) -> tuple[int, bytes]:
        """Post a stream in chunks, and return the status and the body of the answer. See `send_chunks`.

        Raises:
            ServerUnavailable, BadAnswer: as for `call`.
            Exception: reading the stream raised it.
        """
        connection = self.take()
        try:
            with self._exchange(connection, method, _SHORT_ANSWER, whole=False):
                _begin(connection, f"{method}?{urlencode(query)}")
                connection.putheader("Content-Type", "application/x-tar")
                connection.putheader("Transfer-Encoding", "chunked")
                connection.endheaders()
            early = send_chunks(connection.limited, method, stream, self._failures)
            with self._exchange(connection, method, _SHORT_ANSWER, whole=True):
                response = connection.getresponse()
                answer = response.status, read_whole(response, _SHORT_ANSWER)
        except Lost:
            connection.close()
            raise self._failures.lost(method) from None
        except BaseException:
            connection.close()
            raise
        if early or answer[0] != _OK or b'"Err"' in answer[1]:
            connection.close()  # the server may not have read the body to its end, and closes it
        else:
            self.give_back(connection)
        return answer

    def read_stream(self, method: str, body: bytes) -> io.BufferedReader | tuple[int, bytes]:
        """Post a document, and return the answer's body as a file. If the status is not 200, return both.

        Raises:
            ServerUnavailable, BadAnswer: as for `call`.
        """
        connection = self.take()
        again = connection.used
        try:
            with self._exchange(connection, method, _SHORT_ANSWER, whole=True):
                _begin(connection, method)
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body)
                response = connection.getresponse()
                failed = None
                if response.status != _OK:
                    failed = response.status, read_whole(response, _SHORT_ANSWER)
        except Lost:
            connection.close()
            if not again:
                raise self._failures.lost(method) from None
            self.close()
            return self.read_stream(method, body)
        except BaseException:
            connection.close()
            raise
        if failed is not None:
            self.give_back(connection)
            return failed
        connection.limited.limit(allowed=_HEADERS, patience=self._timeout, whole=False)

        def end(reusable: bool) -> None:
            if reusable:
                self.give_back(connection)
            else:
                connection.close()

        return open_body(response, connection.limited, method, self._failures, end)

    # Connections

    def take(self) -> UnixConnection:
        """Return a connection that no other call uses. To be given to `give_back`, or closed."""
        if os.getpid() != self._process:
            self._leave()
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            if connection.sock is not None and connection.limited.is_quiet():
                return connection
            connection.close()
        return self._new()

    def give_back(self, connection: UnixConnection) -> None:
        """Keep a connection for the next call, if it can be used again."""
        if connection.sock is None or os.getpid() != self._process:
            connection.close()
            return
        with self._lock:
            if len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _new(self) -> UnixConnection:
        try:
            connection = UnixConnection(self.address, self._connect_timeout)
        except OSError as error:
            failure = self._failures.of_connecting(error)
            if failure is error:
                raise
            raise failure from error
        try:
            self._greet(connection)
        except Lost:
            connection.close()
            raise self._failures.lost("the first call of a connection") from None
        except BaseException:
            connection.close()
            raise
        connection.used = False  # greeting is no use
        return connection

    def _leave(self) -> None:
        """Close the connections that a forked child has from its parent, who goes on to use them."""
        inherited = self._idle
        self._idle, self._lock, self._process = [], Lock(), os.getpid()
        for connection in inherited:
            connection.close()

    @contextmanager
    def _exchange(self, connection: UnixConnection, method: str, limit: int, *, whole: bool) -> Iterator[None]:
        """Set the limits of a block that sends or receives, and raise the errors of the server for those of HTTP.

        Args:
            connection: the connection, which is opened again if the server has closed it.
            method: what is called.
            limit: how many bytes the answer's body may have.
            whole: whether the block as a whole may take no longer than the timeout.
        """
        connection.limited.received = 0
        try:
            connection.open_again()
            connection.limited.limit(allowed=limit + _HEADERS, patience=self._timeout, whole=whole)
            yield
        except HTTP_ERRORS as error:
            raise self._failures.of_call(method, error, answering=connection.limited.received > 0) from error
        connection.used = True


def _begin(connection: UnixConnection, method: str) -> None:
    connection.putrequest("POST", f"/{method}", skip_accept_encoding=True)
    connection.putheader("Accept", _ACCEPT)
