"""Answers whose headers, lines between chunks, or slowness have no end."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.registry import InvalidAnswer, Registry, RegistryUnavailable
from layerstore_core.registry.http.bounded import BoundedResponse
from layerstore_core.registry.http.retries import RetryPolicy
from tests.registry.fake_registry import FakeRegistry

pytestmark = pytest.mark.usefixtures("nothing_left_open")
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerstore_core.registry.http.bounded._GATHERING", 0.02)


def once(host: str, timeout: float = 0.05) -> Registry:
    """Return a client that makes each request once."""
    registry = Registry(host, settings={}, timeout=timeout)
    registry._session.policy = RetryPolicy(attempts=1)
    return registry


@contextmanager
def server(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Run a server that has read the headers of a request when `answer` is called, for each connection."""
    stop = threading.Event()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    while not stop.is_set() and b"\r\n\r\n" not in (connection.recv(65536) or b"\r\n\r\n"):
                        pass
                    answer(connection)
                except OSError:
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def for_ever(data: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        for _ in range(100_000):
            connection.sendall(data)
            time.sleep(pause)

    return send


def after(data: bytes, then: Callable[[socket.socket], object]) -> Callable[[socket.socket], object]:
    def send(connection: socket.socket) -> None:
        connection.sendall(data)
        then(connection)

    return send


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        for_ever(b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 60_000 + b"\r\n\r\n"),
        after(OK, for_ever(b"X: y\r\n" * 100)),
        after(OK, for_ever(b"X" * 1000)),
        after(CHUNKED + b"0\r\n", for_ever(b"X: y\r\n" * 100)),
        after(CHUNKED + b"1", for_ever(b";" * 1000)),
    ],
    ids=["100", "100 with headers", "headers", "header", "trailers", "extension"],
)
def test_lines_without_end(answer: Callable[[socket.socket], object]) -> None:
    given_up = pytest.raises(RegistryUnavailable, match=r"headers without end|not HTTP|connection broke")
    with server(answer) as host, once(host, timeout=5) as registry, given_up:
        registry.manifest("app", "1")


@pytest.mark.parametrize("start", [b"", OK, OK + b"X: "], ids=["status", "headers", "header"])
def test_headers_that_come_too_slowly(
    start: bytes,
) -> None:
    given_up = pytest.raises(RegistryUnavailable, match=r"comes too slowly")
    with server(after(start, for_ever(b"H", 0.01))) as host, once(host) as registry, given_up:
        registry.manifest("app", "1")


def test_a_body_that_comes_too_slowly(
    fake_registry: FakeRegistry,
) -> None:
    digest = fake_registry.add_blob("app", bytes(1000))
    fake_registry.faults.on("blobs").slow(1, 0.01)
    given_up = pytest.raises(RegistryUnavailable, match=r"to its end: its answer comes too slowly")
    with once(fake_registry.host) as registry, registry.blob("app", digest) as blob, given_up:
        b"".join(iter(blob.read, b""))


def test_a_reader_that_takes_its_time_is_not_slow(fake_registry: FakeRegistry) -> None:
    digest = fake_registry.add_blob("app", bytes(8 << 20))
    with Registry(fake_registry.host, settings={}, timeout=0.2) as registry, registry.blob("app", digest) as blob:
        assert blob.read(10)
        time.sleep(0.3)
        assert blob.read(10)
    assert fake_registry.log.count() == 1


def test_a_document_that_comes_slowly(
    fake_registry: FakeRegistry,
) -> None:
    fake_registry.faults.on("manifests").status(200, b'{"manifests": []}' + b" " * 10_000)
    fake_registry.faults.on("manifests").slow(50, 0.001)
    with once(fake_registry.host) as registry, pytest.raises(RegistryUnavailable, match="comes too slowly"):
        registry.manifest("app", "1")


def test_a_body_that_nobody_wants_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerstore_core.registry.http.answer._DRAINING", 0.05)
    given_up = threading.Event()

    def redirect(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 307 Go\r\nLocation: /v2/there\r\nContent-Length: 60000\r\n\r\n")
        try:
            for _ in range(60_000):
                connection.sendall(b"x")
                time.sleep(0.001)
        except OSError:
            given_up.set()

    with server(redirect) as host, once(host, timeout=5) as registry:
        with pytest.raises(InvalidAnswer, match="redirects more than"):
            registry.manifest("app", "1")
        assert given_up.wait(5)


def test_what_came_before_a_break_is_kept() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(OK + b"Content-Length: 100\r\n\r\n12345")
        ours.settimeout(0.05)
        response = BoundedResponse(ours)
        response.begin()
        assert response.read1(1000) == b"12345"
        with pytest.raises(TimeoutError):
            response.read1(1000)
        response.close()


class _Pieces(io.RawIOBase):
    """A file that gives a piece for each read, as sockets do."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while self._pieces and not self._pieces[0]:
            self._pieces.pop(0)
        if not self._pieces:
            return 0
        piece = self._pieces[0][: len(buffer)]
        self._pieces[0] = self._pieces[0][len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


class _Socket:
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Pieces(self._pieces))

    def gettimeout(self) -> float:
        return 10.0


@given(st.binary(max_size=300), st.booleans(), st.lists(st.integers(1, 50), min_size=1, max_size=20), st.data())
def test_the_same_bytes_as_the_standard_library_reads(
    body: bytes, chunked: bool, cuts: list[int], data: st.DataObject
) -> None:
    if chunked:
        sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=10))
        pieces, rest = [], body
        for size in sizes:
            pieces.append(rest[:size])
            rest = rest[size:]
        pieces.append(rest)
        text = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\nX: y\r\n\r\n"
        raw = CHUNKED + text
    else:
        raw = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body + b"the next answer"
    parts, position = [], 0
    while position < len(raw):
        size = cuts[len(parts) % len(cuts)]
        parts.append(raw[position : position + size])
        position += size
    size = data.draw(st.integers(1, 400))
    for kind in (http.client.HTTPResponse, BoundedResponse):
        response = kind(_Socket(list(parts)), method="GET")  # type: ignore[arg-type]
        response.begin()
        found = b"".join(iter(lambda: response.read1(size), b""))  # noqa: B023
        assert found == body
        assert response.status == 200


def test_pieces_are_gathered() -> None:
    raw = [OK + b"Content-Length: 1000000\r\n\r\n", *[bytes(16384)] * 61, bytes(576)]
    response = BoundedResponse(_Socket(raw), method="GET")
    response.begin()
    sizes = [len(piece) for piece in iter(lambda: response.read1(1 << 20), b"")]
    assert sum(sizes) == 1_000_000
    assert len(sizes) < 6


def test_an_answer_is_closed_with_little_of_it_read(fake_registry: FakeRegistry) -> None:
    digest = fake_registry.add_blob("app", bytes(1 << 20))
    with Registry(fake_registry.host, settings={}) as registry:
        for _ in range(3):
            with registry.blob("app", digest) as blob:
                blob.read(1)
        registry.ping()
