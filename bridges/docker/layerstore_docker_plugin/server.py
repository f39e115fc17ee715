"""The HTTP server: a thread for each connection, which stays open between requests.

Requests are `POST /METHOD` with JSON, as Docker's client sends them: with an empty Host header. Bodies have a length or
are chunked. A failed call is answered with status 200 and the field `Err`, which is what Docker's client reads; one
that is not of the protocol with 400, 404, 405 or 413. An answer that is a tar is chunked. If it breaks off, the last
chunk is missing, and the connection is closed.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from threading import Condition, Thread
from typing import Any, BinaryIO, Final, cast
from urllib.parse import parse_qs, urlsplit

from layerstore_core.log import logger
from layerstore_docker_plugin.bodies import Body, ChunkedBody, ClientGone, SizedBody
from layerstore_docker_plugin.lent import LentDriver
from layerstore_docker_plugin.messages import Arguments, Peer
from layerstore_docker_plugin.methods import METHODS, STREAMS, UPLOADS
from layerstore_docker_plugin.problems import BadRequest, describe, is_bug

_MEDIA_TYPE: Final = "application/vnd.docker.plugins.v1.1+json"
#: The longest request that is no tar, in bytes.
_MAX_REQUEST: Final = 1 << 20
_MAX_CONNECTIONS: Final = 512
_BLOCK: Final = 1 << 18
#: How long to wait after a connection that could not be accepted, in seconds.
_PAUSE: Final = 0.2
#: How long the rest of a request is read after its answer, in seconds, so that the client gets the answer.
_DRAIN_SECONDS: Final = 10


class Server:
    """The server of one driver.

    Args:
        listener: the socket, listening.
        lent: the driver.
    """

    def __init__(self, listener: socket.socket, lent: LentDriver) -> None:
        self.lent: Final = lent
        self._listener = listener
        self._stop_read, self._stop_write = socket.socketpair()
        self._state = Condition()
        self._connections: dict[Connection, bool] = {}
        self.stopping = False

    def serve(self) -> None:
        """Accept connections until `stop` is called, or a signal handler raises."""
        while not self.stopping:
            ready, _, _ = select.select([self._listener, self._stop_read], [], [])
            if self._listener in ready and not self.stopping:
                self._accept()

    def stop(self) -> None:
        """Let `serve` return. May be called from any thread, and from a signal handler."""
        self.stopping = True
        with suppress(OSError):
            self._stop_write.send(b"x")

    def waker(self) -> socket.socket:
        """Return a socket that never blocks; what is written to it lets `serve` look whether it is to stop."""
        waker = self._stop_write.dup()
        waker.setblocking(False)
        return waker

    def close(self, patience: float) -> int:
        """Stop, wait for requests that are being answered, and end all connections.

        Args:
            patience: how long to wait, in seconds.

        Returns:
            How many requests were still being answered then.
        """
        self.stop()
        with self._state:
            for connection, busy in self._connections.items():
                if not busy:
                    connection.end()
            self._state.wait_for(lambda: not any(self._connections.values()), patience)
            left = sum(self._connections.values())
            for connection in self._connections:
                connection.end()
        self._stop_read.close()
        self._stop_write.close()
        return left

    def note(self, connection: Connection, *, busy: bool) -> None:
        """Note whether a connection has a request that is being answered."""
        with self._state:
            if connection in self._connections:
                self._connections[connection] = busy
                self._state.notify_all()

    def enter(self, connection: Connection) -> bool:
        """Note a new connection. Return whether there may be one more."""
        with self._state:
            if self.stopping or len(self._connections) >= _MAX_CONNECTIONS:
                return False
            self._connections[connection] = False
            return True

    def leave(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        with self._state:
            self._connections.pop(connection, None)
            self._state.notify_all()

    def _accept(self) -> None:
        """Take one connection. What this process has no room for waits until others end."""
        try:
            client, _ = self._listener.accept()
        except ConnectionError:
            return
        except OSError as error:  # such as too many open files
            with suppress(OSError):  # the first message needs files, too
                logger.warning("a connection cannot be accepted now: {}", error)
            select.select([self._stop_read], [], [], _PAUSE)
            return
        try:
            Thread(target=self._attend, args=(client,), daemon=True).start()
        except RuntimeError as error:
            logger.warning("a connection is closed again: {}", error)
            client.close()

    def _attend(self, client: socket.socket) -> None:
        with client:
            try:
                Connection(client, self)
            except (ConnectionError, TimeoutError) as error:
                logger.info("a client has gone away: {}", error)
            except Exception as error:
                logger.opt(exception=error).error("a connection has ended: {}", error)


class Connection(BaseHTTPRequestHandler):
    """The requests of one client, one after another."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    #: The answer has begun, so that an error cannot be answered any more.
    _answering = False
    #: The layer of the call, for the log.
    _layer = ""
    #: The body of the request that is being answered.
    _request_body: Body | None = None

    def __init__(self, client: socket.socket, server: Server) -> None:
        self._server = server
        self._peer = Peer()
        super().__init__(client, "", cast("Any", server))

    def handle(self) -> None:
        """Answer requests until the client or the server closes the connection."""
        if not self._server.enter(self):
            self.requestline, self.request_version, self.close_connection = "", self.protocol_version, True
            self._answer(503, {"Err": "too many connections, or the server is stopping; try again"})
            return
        try:
            super().handle()
        finally:
            self._server.leave(self)

    def end(self) -> None:
        """Let the connection end, instead of waiting for the next request."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def do_POST(self) -> None:
        """Answer one request."""
        self._server.note(self, busy=True)
        self._answering, self._layer, self._request_body = False, "", None
        began = time.monotonic()
        body: Body | None = None
        method = "?"
        try:
            self._request_body = body = self._body()
            try:
                url = urlsplit(self.path)
            except ValueError as error:
                raise BadRequest(f"the address of the request cannot be read: {error}") from None
            method = url.path.removeprefix("/")
            self._call(method, url.query, body)
            logger.info("{}{} in {:.4f} s", method, self._layer, time.monotonic() - began)
        except BadRequest as error:
            logger.warning("{}", error)
            self._fail(error.status, error)
        except Exception as error:
            if isinstance(error, ClientGone) or (self._answering and isinstance(error, ConnectionError)):
                raise
            took = time.monotonic() - began
            logger.info("{}{} in {:.4f} s: {}: {}", method, self._layer, took, type(error).__name__, error)
            if is_bug(error):
                logger.opt(exception=error).error("{} has failed: {}", method, error)
            self._fail(500 if method in STREAMS else 200, error)
        finally:
            if body is None or self._server.stopping:
                self.close_connection = True
            elif not body.ended:
                self._drain(body)
            self._server.note(self, busy=False)

    def handle_expect_100(self) -> bool:
        """Tell a client that waits for it to send the body."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not HTTP, or not POST, as `BaseHTTPRequestHandler` finds it."""
        self.close_connection = True
        self.request_version = self.protocol_version  # otherwise an answer has no status line
        self._answer(int(code), {"Err": message or "not a request of HTTP/1.1", "Class": "bad-request"})

    def _call(self, method: str, query: str, body: Body) -> None:
        lent = self._server.lent
        if call := UPLOADS.get(method):
            try:
                fields = parse_qs(query, strict_parsing=bool(query), max_num_fields=16)
            except ValueError as error:
                raise BadRequest(f"{method}: the query {query!r} cannot be read: {error}") from None
            words = {name: values[-1] for name, values in fields.items()}
            self._layer = f" {words.get('id', '')[:80]}"
            self._answer(200, call(lent, Arguments(method, words, self._peer, cast("BinaryIO", body))))
            return
        if method not in METHODS and method not in STREAMS:
            raise BadRequest(f"there is no method {method[:100]!r}", 404)
        given = Arguments.parse(method, body.whole(_MAX_REQUEST), self._peer)
        if layer := given.text("ID"):
            self._layer = f" {layer[:80]}"
        if stream := STREAMS.get(method):
            with stream(lent, given) as file:
                self._send(file)
        else:
            self._answer(200, METHODS[method](lent, given))

    def _body(self) -> Body:
        """Return the reader of the request's body."""
        coding, length = self.headers.get("Transfer-Encoding"), self.headers.get("Content-Length")
        if coding is not None:
            if coding.strip().lower() != "chunked" or length is not None:
                raise BadRequest("the body is neither chunked nor of a given length")
            return ChunkedBody(self.rfile)
        if length is None:
            return SizedBody(self.rfile, 0)
        if not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise BadRequest(f"Content-Length: {length[:100]!r} is not a number")
        return SizedBody(self.rfile, int(length))

    def _fail(self, status: int, error: BaseException) -> None:
        if self._answering:  # the client learns it from the missing end of the answer
            self.close_connection = True
        else:
            self._answer(status, describe(error))

    def _answer(self, status: int, answer: Mapping[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self._answering = True
        if self._request_body is not None and not self._request_body.ended:
            self.close_connection = True  # said in the answer, or the client sends its next request in vain
        self.send_response_only(status)
        self.send_header("Content-Type", _MEDIA_TYPE)
        self.send_header("Content-Length", str(len(text)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)
        self.wfile.flush()

    def _send(self, file: BinaryIO) -> None:
        """Answer with the content of a file. What fails before its first bytes is still answered as an error."""
        block = file.read(_BLOCK)
        self._answering = True
        self.send_response_only(200)
        self.send_header("Content-Type", "application/x-tar")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while block:
            self.wfile.write(b"%x\r\n" % len(block))
            self.wfile.write(block)
            self.wfile.write(b"\r\n")
            self.wfile.flush()
            block = file.read(_BLOCK)
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _drain(self, body: Body) -> None:
        """Read the rest of a request that was not read to its end, so that the client gets the answer."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            end = time.monotonic() + _DRAIN_SECONDS
            self.connection.settimeout(_DRAIN_SECONDS)
            while self.rfile.read1(_BLOCK) and time.monotonic() < end:
                pass
