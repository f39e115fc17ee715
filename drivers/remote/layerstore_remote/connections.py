"""Calls over kept-alive connections to one server: as many connections as there are calls at the same time."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from threading import Lock
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urlencode

from layerstore_remote.errors import BadAnswer, ServerUnavailable
from layerstore_remote.sockets import NOT_LISTENING, TooLong, UnixConnection

if TYPE_CHECKING:
    from layerstore_core import LayerStream

_ACCEPT: Final = "application/vnd.docker.plugins.v1.2+json"
#: Bytes of headers and of the framing of a body that are allowed beside the body itself.
_HEADERS: Final = 1 << 18
#: In a stream, so many bytes are received for each byte of its content, at most. Chunks of one byte need six.
_FRAMING: Final = 16
_PIECE: Final = 1 << 16
_OK: Final = 200
_STREAM_PIECE: Final = 1 << 18
_SHORT_ANSWER: Final = 1 << 20
#: Connections beyond this number are not kept.
_KEPT: Final = 16
#: Two blocks of zeros end a tar.
_END_OF_TAR: Final = 1024


class Lost(Exception):
    """The connection ended before there was an answer."""


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
            self.discard(connection)
            if not again:
                self._fail_lost(method)
            self.close()
            return self.call(method, body, limit, repeatable=False)
        except BaseException:
            self.discard(connection)
            raise
        self.give_back(connection)
        return answer

    def call_on(self, connection: UnixConnection, method: str, body: bytes, limit: int) -> tuple[int, bytes]:
        """Make a call on a connection, without a second attempt. See `call`.

        Raises:
            Lost: the connection ended before there was an answer.
        """
        try:
            connection.open_again()
            connection.limited.limit(allowed=limit + _HEADERS, patience=self._timeout, whole=True)
            _begin(connection, method)
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            answer = response.status, self._whole_body(method, response, limit)
        except (OSError, HTTPException, ValueError, TooLong) as error:
            self._fail(method, error, answering=connection.limited.received > 0)
        connection.used = True
        return answer

    def send_stream(self, method: str, query: dict[str, str], stream: LayerStream) -> tuple[int, bytes]:
        """Post a stream in chunks, and return the status and the body of the answer.

        If reading the stream raises, the body is left without its end, and the server is waited for: it must have
        stopped to write to the layer before anyone removes that.

        Raises:
            ServerUnavailable, BadAnswer: as for `call`.
            Exception: reading the stream raised it.
        """
        connection = self.take()
        try:
            answered = self._send(connection, method, query, stream)
            answer = self._answer(connection, method)
        except Lost:
            self.discard(connection)
            self._fail_lost(method)
        except BaseException:
            self.discard(connection)
            raise
        if answered or answer[0] != _OK or b'"Err"' in answer[1]:
            self.discard(connection)  # the server may not have read the body to its end, and closes it
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
            try:
                connection.open_again()
                connection.limited.limit(allowed=_HEADERS + _SHORT_ANSWER, patience=self._timeout, whole=True)
                _begin(connection, method)
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body)
                response = connection.getresponse()
                failed = None
                if response.status != _OK:
                    failed = response.status, self._whole_body(method, response, _SHORT_ANSWER)
            except (OSError, HTTPException, ValueError, TooLong) as error:
                self._fail(method, error, answering=connection.limited.received > 0)
        except Lost:
            self.discard(connection)
            if not again:
                self._fail_lost(method)
            self.close()
            return self.read_stream(method, body)
        except BaseException:
            self.discard(connection)
            raise
        if failed is not None:
            self.give_back(connection)
            return failed
        connection.limited.limit(allowed=_HEADERS, patience=self._timeout, whole=False)
        return io.BufferedReader(_Body(self, connection, response, method), _PIECE)

    # Connections

    def take(self) -> UnixConnection:
        """Return a connection that no other call uses. To be given to `give_back` or `discard`."""
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

    def discard(self, connection: UnixConnection) -> None:
        """Close a connection of which it is not known what comes next on it."""
        connection.close()

    def _new(self) -> UnixConnection:
        try:
            connection = UnixConnection(self.address, self._connect_timeout)
        except OSError as error:
            if isinstance(error, TimeoutError) or error.errno in NOT_LISTENING:
                raise ServerUnavailable(
                    f"no server listens at {self.address} ({error.strerror or 'it accepts no connection'}): start it, "
                    "or name its socket with the option address"
                ) from error
            if error.errno in (errno.EACCES, errno.EPERM):
                raise ServerUnavailable(
                    f"this user may not connect to the server at {self.address}: run the command as the user that the "
                    "socket is for"
                ) from error
            error.add_note(f"while connecting to the server at {self.address}")
            raise
        try:
            self._greet(connection)
        except Lost:
            connection.close()
            self._fail_lost("the first call of a connection")
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

    # Bodies

    def _whole_body(self, method: str, response: HTTPResponse, limit: int) -> bytes:
        pieces, total = [], 0
        while piece := response.read(_PIECE):
            total += len(piece)
            if total > limit:
                raise TooLong
            pieces.append(piece)
        if response.length:
            raise OSError(f"the answer lacks {response.length} bytes")
        return b"".join(pieces)

    def _send(self, connection: UnixConnection, method: str, query: dict[str, str], stream: LayerStream) -> bool:
        """Send a stream. Return whether the server has answered, or gone, before its end."""
        try:
            connection.open_again()
            sock = connection.limited
            sock.limit(allowed=_HEADERS + _SHORT_ANSWER, patience=self._timeout, whole=False)
            _begin(connection, f"{method}?{urlencode(query)}")
            connection.putheader("Content-Type", "application/x-tar")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
        except OSError as error:
            self._fail(method, error, answering=False)
        buffer = memoryview(bytearray(_STREAM_PIECE))
        end_of_chunk = b""
        while True:
            try:
                count = _fill(stream, buffer)
            except BaseException:
                self._abandon(connection)
                raise
            try:
                head = memoryview(b"%b%x\r\n%b" % (end_of_chunk, count, b"" if count else b"\r\n"))
                if not (sock.send_until_answered(head) and sock.send_until_answered(buffer[:count])):
                    return True
            except TimeoutError as error:
                self._fail(method, error, answering=False)
            except OSError:
                return True  # there may be an answer that says why
            if not count:
                return False
            end_of_chunk = b"\r\n"

    def _answer(self, connection: UnixConnection, method: str) -> tuple[int, bytes]:
        connection.limited.limit(allowed=_HEADERS + _SHORT_ANSWER, patience=self._timeout, whole=True)
        try:
            response = connection.getresponse()
            answer = response.status, self._whole_body(method, response, _SHORT_ANSWER)
        except (OSError, HTTPException, ValueError, TooLong) as error:
            self._fail(method, error, answering=connection.limited.received > 0)
        connection.used = True
        return answer

    def _abandon(self, connection: UnixConnection) -> None:
        """End a body before its end, and wait until the server has done with it."""
        import socket  # lazy: after a failure only

        sock = connection.limited
        try:
            sock.limit(allowed=_HEADERS + _SHORT_ANSWER, patience=self._timeout, whole=True)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv_into(bytearray(_PIECE)):
                pass
        except (OSError, TooLong):
            pass  # the server is gone, which is as good

    # Failures

    def _fail(self, method: str, error: Exception, *, answering: bool) -> NoReturn:
        """Raise the error of a call that went wrong.

        Args:
            method: what was called.
            error: what went wrong.
            answering: whether a part of the answer had come.
        """
        if isinstance(error, TimeoutError):
            raise ServerUnavailable(
                f"the server at {self.address} has not answered {method} within {self._timeout:g} seconds: see whether "
                "it hangs, and start it again; or allow it more with the option timeout. What it was doing may still "
                "be done; `layerstore gc` removes what nothing refers to"
            ) from error
        if isinstance(error, TooLong):
            raise BadAnswer(
                f"the server at {self.address} answers {method} with more than is accepted; if its layers have that "
                'much to tell, set the option diffs to "store"'
            ) from error
        # Of the errors that http.client raises, those of the connection are subclasses of OSError, too.
        if isinstance(error, OSError) or (answering and type(error).__name__ == "IncompleteRead"):
            if answering:
                self._fail_lost(method)
            raise Lost from error
        raise BadAnswer(f"the server at {self.address} answers {method} with something that is no HTTP") from error

    def _fail_lost(self, method: str) -> NoReturn:
        raise ServerUnavailable(
            f"the server at {self.address} has ended the connection in the middle of {method}: it has probably died. "
            "See its log, start it again, and repeat the command; `layerstore gc` removes what was left half done"
        )


class _Body(io.RawIOBase):
    """The body of an answer, as a file. Its connection is kept for other calls if the body was read to its end."""

    def __init__(
        self, connections: Connections, connection: UnixConnection, response: HTTPResponse, method: str
    ) -> None:
        super().__init__()
        self._connections = connections
        self._connection = connection
        self._response = response
        self._method = method
        self._read = 0
        self._tail = b""
        self._ended = False
        #: Without a length and without chunks, only the tar itself shows whether it is whole.
        self._unframed = response.length is None and not response.chunked

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._ended or not len(buffer):
            return 0
        try:
            count = self._response.readinto(buffer)
            if not count and self._response.length:
                raise OSError("the body is too short")
        except (OSError, HTTPException, ValueError, TooLong) as error:
            self._give_up(error)
        self._connection.limited.allowed += count * _FRAMING
        self._read += count
        if self._unframed:
            self._tail = (self._tail + bytes(buffer[max(count - _END_OF_TAR, 0) : count]))[-_END_OF_TAR:]
        if not count:
            if self._unframed and self._read and self._tail.strip(b"\0"):
                self._give_up(OSError("the tar has no end"))
            self._ended = True
        return count

    def close(self) -> None:
        if not self.closed:
            try:
                if self._ended and not self._unframed:
                    self._connections.give_back(self._connection)
                else:
                    self._response.close()
                    self._connections.discard(self._connection)
            finally:
                super().close()

    def _give_up(self, error: Exception) -> NoReturn:
        where = f"the server at {self._connections.address}"
        if isinstance(error, TimeoutError):
            raise ServerUnavailable(f"{where} has sent nothing more of {self._method} for too long") from error
        if isinstance(error, TooLong):
            raise BadAnswer(f"{where} sends {self._method} in a form that is no HTTP of a sane server") from error
        raise ServerUnavailable(
            f"{where} has ended {self._method} after {self._read} bytes, in the middle: it has died, or could not read "
            "the layer. See its log, and repeat the command"
        ) from error


def _begin(connection: UnixConnection, method: str) -> None:
    connection.putrequest("POST", f"/{method}", skip_accept_encoding=True)
    connection.putheader("Accept", _ACCEPT)


def _fill(stream: LayerStream, buffer: memoryview) -> int:
    """Fill a buffer from a stream, whose pieces may be small. Return the number of bytes, 0 at the end."""
    count = 0
    while count < len(buffer):
        read = stream.readinto(buffer[count:])
        if not read:
            break
        count += read
    return count
