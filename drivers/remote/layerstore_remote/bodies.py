"""Bodies of requests and answers: a stream that is sent in chunks, and one that is read as a file."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Final

from layerstore_remote.failures import Failures
from layerstore_remote.sockets import LimitedSocket, TooLong

if TYPE_CHECKING:
    from layerstore_core import LayerStream

#: What reading an answer may raise.
HTTP_ERRORS: Final = (OSError, HTTPException, ValueError, TooLong)
#: In a stream, so many bytes are received for each byte of its content, at most. Chunks of one byte need six.
_FRAMING: Final = 16
_PIECE: Final = 1 << 16
_CHUNK: Final = 1 << 18
#: Two blocks of zeros end a tar.
_END_OF_TAR: Final = 1024


def send_chunks(sock: LimitedSocket, method: str, stream: LayerStream, failures: Failures) -> bool:
    """Send a stream as a body in chunks (RFC 9112, section 7.1).

    If reading the stream raises, the body is left without its end, and the server is waited for: it must have stopped
    to write to the layer before anyone removes that.

    Args:
        sock: the connection, after the headers.
        method: what is called.
        stream: the stream.
        failures: the errors of the server.

    Returns:
        Whether the server has answered, or gone, before the end of the body.

    Raises:
        ServerUnavailable: the server takes nothing more.
        Exception: reading the stream raised it.
    """
    buffer = memoryview(bytearray(_CHUNK))
    end_of_chunk = b""
    while True:
        try:
            count = _fill(stream, buffer)
        except BaseException:
            _abandon(sock)
            raise
        try:
            head = memoryview(b"%b%x\r\n%b" % (end_of_chunk, count, b"" if count else b"\r\n"))
            if not (sock.send_until_answered(head) and sock.send_until_answered(buffer[:count])):
                return True
        except TimeoutError as error:
            raise failures.of_call(method, error, answering=False) from error
        except OSError:
            return True  # there may be an answer that says why
        if not count:
            return False
        end_of_chunk = b"\r\n"


def read_whole(response: HTTPResponse, limit: int) -> bytes:
    """Read the body of an answer.

    Raises:
        TooLong: it has more bytes than `limit`.
        OSError, HTTPException, ValueError: it cannot be read, or ends too early.
    """
    pieces, total = [], 0
    while piece := response.read(_PIECE):
        total += len(piece)
        if total > limit:
            raise TooLong
        pieces.append(piece)
    if response.length:
        raise OSError(f"the answer lacks {response.length} bytes")
    return b"".join(pieces)


def open_body(
    response: HTTPResponse, sock: LimitedSocket, method: str, failures: Failures, end: Callable[[bool], None]
) -> io.BufferedReader:
    """Open the body of an answer, a tar, as a file.

    Args:
        response: the answer.
        sock: its connection.
        method: what was called.
        failures: the errors of the server.
        end: called when the file is closed, with whether the connection can be used again.
    """
    return io.BufferedReader(_TarBody(response, sock, method, failures, end), _PIECE)


class _TarBody(io.RawIOBase):
    """The body of an answer, as a file. See `open_body`."""

    def __init__(
        self, response: HTTPResponse, sock: LimitedSocket, method: str, failures: Failures, end: Callable[[bool], None]
    ) -> None:
        super().__init__()
        self._response = response
        self._sock = sock
        self._method = method
        self._failures = failures
        self._end = end
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
        except HTTP_ERRORS as error:
            raise self._failures.of_body(self._method, error, self._read) from error
        self._sock.allowed += count * _FRAMING
        self._read += count
        if self._unframed:
            self._tail = (self._tail + bytes(buffer[max(count - _END_OF_TAR, 0) : count]))[-_END_OF_TAR:]
        if not count:
            if self._unframed and self._read and self._tail.strip(b"\0"):
                raise self._failures.of_body(self._method, OSError("the tar has no end"), self._read)
            self._ended = True
        return count

    def close(self) -> None:
        if not self.closed:
            try:
                self._response.close()
                self._end(self._ended and not self._unframed)
            finally:
                super().close()


def _fill(stream: LayerStream, buffer: memoryview) -> int:
    """Fill a buffer from a stream, whose pieces may be small. Return the number of bytes, 0 at the end."""
    count = 0
    while count < len(buffer):
        read = stream.readinto(buffer[count:])
        if not read:
            break
        count += read
    return count


def _abandon(sock: LimitedSocket) -> None:
    """End a body before its end, and wait until the server has done with it."""
    try:
        sock.limit(allowed=_CHUNK, patience=sock.patience, whole=True)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv_into(bytearray(_PIECE)):
            pass
    except (OSError, TooLong):
        pass  # the server is gone, which is as good
