"""An answer of a server, as far as a registry's client needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Self

from urllib3.response import BaseHTTPResponse

from layerstore_core.registry.http.broken import ConnectionFailed, TooLong
from layerstore_core.registry.http.reasons import failing

#: How much of a body that is not wanted is read, in order to use the connection again.
_DRAIN: Final = 64 << 10
#: How long that may take, in seconds: a new connection takes less.
_DRAINING: Final = 1.0
#: The least speed of a body in bytes a second, over the longest silence that is allowed.
_LEAST_SPEED: Final = 100
#: How long a whole document may take, in longest silences.
_DOCUMENT: Final = 4


class Answer:
    """An answer, with a body that is read piece by piece. Closing it gives the connection back.

    Args:
        response: the response of urllib3, whose body is not read yet.
        url: the URL that was asked.
        timeout: the limit of silence in seconds, for messages.

    Attributes:
        status: the HTTP status.
        headers: the headers; their names are looked up in any case.
        rest: has the server that gave it not be asked for a moment, if another can be asked; returns whether that is
            so. It is for transfers that break.
        distrust: the same for long. It is for wrong bytes.
    """

    def __init__(self, response: BaseHTTPResponse, url: str, timeout: float) -> None:
        self._response = response
        self._timeout = timeout
        self.url = url
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        #: Since the speed was last looked at: the seconds in `read`, and the bytes.
        self._waited, self._received = 0.0, 0
        self.rest: Callable[[], bool] = bool
        self.distrust: Callable[[], bool] = bool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def header(self, name: str) -> str:
        """Return a header's value; empty if there is no such header."""
        return self.headers.get(name) or ""

    @property
    def length(self) -> int | None:
        """The length of the body that the server announced; `None` for none, or one that is not a number."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def read(self, size: int) -> bytes:
        """Return some bytes of the body, `size` at most; none at its end.

        Raises:
            ConnectionFailed: the connection broke, the server was silent or too slow, or the body is shorter than
                announced.
        """
        before = time.monotonic()
        with failing(self._timeout):
            data = self._response.read1(size)
        self._check_speed(time.monotonic() - before, len(data))
        return data

    def whole(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            TooLong: it is longer than `limit` bytes.
            ConnectionFailed: as for `read`.
        """
        if (self.length or 0) > limit:
            raise TooLong(limit)
        end = time.monotonic() + _DOCUMENT * self._timeout
        pieces, missing = [], limit + 1
        while missing and (piece := self.read(min(missing, 1 << 16))):
            pieces.append(piece)
            missing -= len(piece)
            if time.monotonic() > end:
                raise ConnectionFailed("its answer comes too slowly")
        if not missing:
            raise TooLong(limit)
        return b"".join(pieces)

    def close(self) -> None:
        """Give the connection back, or close it where the body was not read."""
        if not self._response.closed:
            left = getattr(self._response, "length_remaining", None)  # none in an answer to HEAD
            if left is not None and left <= _DRAIN:
                self._drain()
            self._response.close()
        self._response.release_conn()

    def _check_speed(self, seconds: float, count: int) -> None:
        """Fail if the body comes too slowly. The time between two calls does not count."""
        self._waited += seconds
        self._received += count
        if self._waited > self._timeout:
            if self._received < _LEAST_SPEED * self._waited:
                raise ConnectionFailed("its answer comes too slowly")
            self._waited, self._received = 0.0, 0

    def _drain(self) -> None:
        end = time.monotonic() + _DRAINING
        try:
            while self.read(_DRAIN) and time.monotonic() < end:
                pass
        except ConnectionFailed:
            pass
