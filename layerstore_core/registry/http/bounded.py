"""Answers of servers that may be hostile: what comes before and between their bytes has an end, too.

The standard library limits the length of a line and the number of headers. It does not limit how many answers with
status 100 come before the real one, how long a server takes for a line, or what comes after the last chunk.
"""

from __future__ import annotations

import http.client
import time
from typing import Any, Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

#: The limit of all lines before the body, and of those between two pieces of it, in bytes.
_MAX_LINES: Final = 256 << 10
#: How long the lines before the body may take, in timeouts.
_PATIENCE: Final = 2
#: What is collected of a body before it is passed on: TLS gives it in pieces of 16 KiB, which cost more each.
_GATHERED: Final = 256 << 10
#: How long that may take, in seconds.
_GATHERING: Final = 0.5
_PIECE: Final = 32 << 10


class EndlessAnswer(http.client.HTTPException):
    """The headers of an answer, or the lines between its chunks, do not end."""


class SlowAnswer(http.client.HTTPException):
    """The headers of an answer take too long."""


class _Reader:
    """The bytes of one answer, as `http.client` reads them. What is not limited goes to the socket's own file.

    Args:
        file: the socket's file.
        timeout: the longest silence in seconds; `None` for no limit.
    """

    def __init__(self, file: Any, timeout: float | None) -> None:
        self._file = file
        self._left = _MAX_LINES
        self._broken: OSError | None = None
        self._end = None if timeout is None else time.monotonic() + _PATIENCE * timeout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def readline(self, limit: int) -> bytes:
        """Return the next line, or its first `limit` bytes."""
        line = b""
        while len(line) < limit and not line.endswith(b"\n"):
            if self._end is not None and time.monotonic() > self._end:
                raise SlowAnswer
            ready = self._file.peek(1)  # receives once at most
            if not ready:
                break
            count = min(ready.find(b"\n") + 1 or len(ready), limit - len(line))
            line += self._file.read(count)
            self._left -= count
            if self._left < 0:
                raise EndlessAnswer
        return line

    def read1(self, size: int) -> bytes:
        """Return some bytes of the body: not many small pieces of it, and not later than half a second after the first.

        If the connection breaks, what came before it is returned first.
        """
        if self._broken is not None:
            raise self._broken
        self._left, self._end = _MAX_LINES, None
        data: bytes = self._file.read1(size)
        missing = min(size, _GATHERED) - len(data)
        if missing <= 0 or not data:
            return data
        piece = missing if len(data) > _PIECE else _PIECE
        pieces, end = [data], time.monotonic() + _GATHERING
        while missing > 0 and time.monotonic() < end:
            try:
                data = self._file.read1(min(piece, missing))
            except OSError as error:
                self._broken = error
                break
            if not data:
                break
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)


class BoundedResponse(http.client.HTTPResponse):
    """An answer whose parts all have an end."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp: Any = _Reader(self.fp, sock.gettimeout())


class _Connection(HTTPConnection):
    response_class = BoundedResponse


class _TLSConnection(HTTPSConnection):
    response_class = BoundedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


#: The classes of pools for a `urllib3.PoolManager`.
POOLS: Final = {"http": _Pool, "https": _TLSPool}
