"""An HTTP/1.1 server for tests, which can also answer as no server should: the ground of `fake_registry`.

What it is asked, what it sends and how many bytes of it is on record in `Log`.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

Bytes = bytes | bytearray | memoryview
#: Bodies are received and sent in pieces of this size.
PIECE = 256 << 10
#: The size of the pieces of a body without end.
_ENDLESS_PIECE = bytes(64 << 10)


class BodyCutOff(Exception):
    """The client went away before it had sent its whole body."""


@dataclass
class Request:
    """A request, and what became of it.

    Attributes:
        server: which of a fake registry's servers was asked: "registry", "storage" or "token".
        headers: the headers; their names may be in any case.
        status: the status that was sent; 0 while there is none, or if the connection was closed instead.
        received: how many bytes of a body came.
        sent: how many bytes of a body were sent. It grows while the body is being sent.
        client: the address of the client, which is the same for all requests of one connection.
    """

    server: str
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    read: Callable[[], Iterator[bytes]]
    status: int = 0
    received: int = 0
    sent: int = 0
    done: bool = False
    client: tuple[str, int] = ("", 0)

    @property
    def target(self) -> str:
        """The method and the path, such as "GET /v2/app/manifests/1"."""
        return f"{self.method} {self.path}"

    def argument(self, name: str) -> str | None:
        """Return the first value of an argument of the query, or `None`."""
        return self.query.get(name, [None])[0]  # type: ignore[list-item]

    def body(self) -> bytes:
        """Receive the whole body."""
        return b"".join(self.read())

    def __str__(self) -> str:
        return f"{self.target} -> {self.status}"


@dataclass
class Answer:
    """An answer, and how it is delivered.

    Attributes:
        headers: pairs of names and values: a name may occur several times.
        length: the length that is announced, if it is not the body's. `chunked` announces none.
        cut: close the connection after this many bytes of the body.
        reset: close it with a reset, which may destroy bytes that are still on their way.
        slow: the size of a piece of the body, and the seconds of waiting after each.
        slow_headers: the seconds of waiting after each byte of the status line and of the headers.
        endless: send zeros after the body, without end.
        silent: send nothing at all, and leave the connection open.
        raw: send these bytes in place of everything else, and close the connection.
    """

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: Bytes = b""
    length: int | None = None
    chunked: bool = False
    cut: int | None = None
    reset: bool = False
    slow: tuple[int, float] | None = None
    slow_headers: float = 0
    endless: bool = False
    silent: bool = False
    raw: bytes | None = None
    wait: list[Callable[[], object]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or `None`."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def set_header(self, name: str, value: str | None) -> None:
        """Replace all headers of this name by one; by none for `None`."""
        self.headers = [pair for pair in self.headers if pair[0].lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))


class Log:
    """The requests of some servers, in the order in which they came. It may be asked while they answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []

    def add(self, request: Request) -> None:
        """Add a request."""
        with self._lock:
            self._requests.append(request)

    def finished(self) -> Self:
        """Wait until all answers are sent: a client that goes away early does not see the last of them counted."""
        for _ in range(500):
            if all(request.done for request in self.all()):
                break
            time.sleep(0.01)
        return self

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._requests.clear()

    def all(self, pattern: str = "", server: str | None = None) -> list[Request]:
        """Return the requests of which a regular expression is found in "METHOD /path"."""
        with self._lock:
            requests = list(self._requests)
        return [
            request
            for request in requests
            if server in (None, request.server) and re.search(pattern, request.target) is not None
        ]

    def count(self, pattern: str = "", server: str | None = None) -> int:
        """Return the number of such requests."""
        return len(self.all(pattern, server))

    def sent(self, pattern: str = "", server: str | None = None) -> int:
        """Return how many bytes of bodies were sent in answer to such requests."""
        return sum(request.sent for request in self.all(pattern, server))

    def received(self, pattern: str = "", server: str | None = None) -> int:
        """Return how many bytes of bodies came with such requests."""
        return sum(request.received for request in self.all(pattern, server))

    def statuses(self, pattern: str = "", server: str | None = None) -> list[int]:
        """Return the statuses of the answers to such requests."""
        return [request.status for request in self.all(pattern, server)]


class Server:
    """A server on a free port of the loopback interface, with a thread for each connection.

    Args:
        name: its name in the log.
        answer: returns the answer to a request. It need not read the request's body.
        log: where requests are noted.
        tls: encrypts, if it is given.

    Attributes:
        failures: what went wrong in the server itself: the test that uses it is worth nothing then.
    """

    def __init__(
        self, name: str, answer: Callable[[Request], Answer], log: Log, tls: ssl.SSLContext | None = None
    ) -> None:
        self.name = name
        self.answer = answer
        self.log = log
        self.failures: list[str] = []
        self.stopping = threading.Event()
        self._tls = tls
        self._http = _HTTPServer(self)
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._accept, name=f"fake {name}")
        self._thread.start()

    @property
    def host(self) -> str:
        """The address with the port, as it stands in the name of an image."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address with the scheme."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def wrap(self, connection: socket.socket) -> socket.socket:
        """Encrypt a connection, if the server does."""
        if self._tls is None:
            return connection
        return self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def close(self) -> None:
        """Stop at once: cut off all connections. No thread is left."""
        self.stopping.set()
        try:
            self._http.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was closed before
        self._thread.join()
        self._http.server_close()
        self._http.cut_off()

    def _accept(self) -> None:
        # `serve_forever` would see only after a while that it is to stop: there are hundreds of these tests.
        while not self.stopping.is_set():
            try:
                self._http.process_request(*self._http.get_request())
            except OSError:
                pass


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, server: Server) -> None:
        self.fake = server
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        # The standard library's looks the address up in DNS.
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def process_request_thread(self, request, client_address):  # type: ignore[no-untyped-def]
        thread = threading.current_thread()
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)  # what counts as sent is nearly there
        with self._lock:
            self._connections[thread] = request
        try:
            wrapped = self.fake.wrap(request)
            with self._lock:
                self._connections[thread] = wrapped
            super().process_request_thread(wrapped, client_address)
        finally:
            with self._lock:
                del self._connections[thread]

    def handle_error(self, request, client_address):  # type: ignore[no-untyped-def]
        error = sys.exception()
        # The client, or `close`, has closed the connection; or the client does not trust the certificate.
        ours = (ConnectionError, ssl.SSLError, BodyCutOff, TimeoutError)
        if not isinstance(error, ours) and "closed file" not in str(error):
            self.fake.failures.append(traceback.format_exc())

    def cut_off(self) -> None:
        with self._lock:
            connections = dict(self._connections)
        for connection in connections.values():
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in connections:
            thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTPServer

    def log_message(self, *args: object) -> None:
        pass

    def _serve(self) -> None:
        fake = self.server.fake
        parts = urlsplit(self.path)
        request = Request(
            fake.name, self.command, parts.path, parse_qs(parts.query, keep_blank_values=True), self.headers, iter
        )
        self._rest = self._body(request)
        request.read = lambda: self._rest
        request.client = self.client_address
        fake.log.add(request)
        try:
            answer = fake.answer(request)
            for _ in self._rest:  # what was not read would be taken for the next request
                pass
            for wait in answer.wait:
                wait()
            self._deliver(request, answer)
        finally:
            request.done = True

    def _body(self, request: Request) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield from self._receive(request, size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            yield from self._receive(request, int(self.headers.get("Content-Length") or 0))

    def _receive(self, request: Request, size: int) -> Iterator[bytes]:
        while size:
            data = self.rfile.read1(min(size, PIECE))
            if not data:
                raise BodyCutOff
            size -= len(data)
            request.received += len(data)
            yield data

    def _deliver(self, request: Request, answer: Answer) -> None:
        stopping = self.server.fake.stopping
        if answer.silent:
            stopping.wait()
        if answer.silent or (answer.status == 0):
            self._hang_up(answer)
            return
        request.status = answer.status
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            self._hang_up(answer)
            return
        body = memoryview(answer.body)
        if request.method == "HEAD" or answer.status in (204, 304):
            pieces: Iterable[Bytes] = ()
        else:
            pieces = self._pieces(body, answer)
        head = self._head(answer, len(body), request.method == "HEAD")
        if answer.slow_headers:
            for byte in head:
                self.wfile.write(bytes([byte]))
                if stopping.wait(answer.slow_headers):
                    return
        elif len(body) <= PIECE and pieces and not (answer.slow or answer.chunked or answer.endless):
            # One packet for the usual small answer.
            request.sent += len(data := body[: answer.cut])
            self.wfile.write(head + data)
            pieces = ()
        else:
            self.wfile.write(head)
        for piece in pieces:
            request.sent += len(piece)  # before it is written: a client that has all may look at once
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece)
            if answer.slow and stopping.wait(answer.slow[1]):
                return
        if answer.cut is not None or answer.reset:
            self._hang_up(answer)
        elif answer.chunked and request.method != "HEAD":
            self.wfile.write(b"0\r\n\r\n")

    def _head(self, answer: Answer, size: int, head: bool) -> bytes:
        headers = list(answer.headers)
        names = {name.lower() for name, _ in headers}
        if answer.chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        elif "content-length" not in names and answer.status != 204:
            if answer.endless and answer.length is None:
                headers.append(("Connection", "close"))
            else:
                headers.append(("Content-Length", str(size if answer.length is None else answer.length)))
        if any(name.lower() == "connection" and value.lower() == "close" for name, value in headers) or (
            answer.length is not None and answer.length != size
        ):
            self.close_connection = True
        lines = [f"HTTP/1.1 {answer.status} {self.responses.get(answer.status, ('Unknown',))[0]}"]
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _pieces(self, body: memoryview, answer: Answer) -> Iterator[Bytes]:
        size = answer.slow[0] if answer.slow else PIECE
        end = len(body) if answer.cut is None else min(answer.cut, len(body))
        for start in range(0, end, size):
            yield body[start : min(start + size, end)]
        while answer.endless and not self.server.fake.stopping.is_set():
            yield _ENDLESS_PIECE

    def _hang_up(self, answer: Answer) -> None:
        self.close_connection = True
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler._serve)
