"""The body of an HTTP request, as a file to read: of a given length, or chunked (RFC 9112, section 7.1)."""

from __future__ import annotations

import io
import re
from io import BufferedIOBase
from typing import Final

from layerstore_docker_plugin.problems import BadRequest

_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
#: The longest line about a chunk, and the most lines after the last one.
_LONGEST_LINE: Final = 1024
_MAX_TRAILERS: Final = 64


class ClientGone(ConnectionError):
    """The client has closed the connection before the end of its request."""


class Body(io.RawIOBase):
    """A body that has not been read to its end yet.

    Args:
        source: the connection.

    Attributes:
        ended: whether it has been read to its end.
    """

    def __init__(self, source: BufferedIOBase) -> None:
        super().__init__()
        self._source = source
        self.ended = False

    def readable(self) -> bool:
        return True

    def whole(self, limit: int) -> bytes:
        """Return all of it.

        Raises:
            BadRequest: it has more bytes than `limit`, or ends too early.
        """
        parts, size = [], 0
        while block := self.read(1 << 16):
            parts.append(block)
            size += len(block)
            if size > limit:
                raise BadRequest(f"the request has more than {limit} bytes", 413)
        return b"".join(parts)

    def _read(self, count: int) -> bytes:
        """Return some bytes of the connection, at most `count`."""
        block = self._source.read1(count)
        if not block:
            raise ClientGone("the client has gone away in the middle of a request")
        return block


class SizedBody(Body):
    """A body of a given length, in bytes."""

    def __init__(self, source: BufferedIOBase, length: int) -> None:
        super().__init__(source)
        self._left = length
        self.ended = not length

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; nothing at the end."""
        if not self._left or not size:
            return b""
        block = self._read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        self.ended = not self._left
        return block


class ChunkedBody(Body):
    """A body in chunks."""

    def __init__(self, source: BufferedIOBase) -> None:
        super().__init__(source)
        self._left = 0
        self._begun = False

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; nothing at the end."""
        if self.ended or not size:
            return b""
        if not self._left and not self._next():
            return b""
        block = self._read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block

    def _next(self) -> bool:
        """Read the line before a chunk; after the last one, the end of the body. Return whether there is a chunk."""
        if self._begun and self._line() != b"\r\n":
            raise BadRequest("the body is not chunked as it should be: a chunk is longer than its size")
        self._begun = True
        size = _SIZE.fullmatch(self._line())
        if size is None:
            raise BadRequest("the body is not chunked as it should be: a size is expected")
        self._left = int(size[1], 16)
        if self._left:
            return True
        for _ in range(_MAX_TRAILERS):
            if self._line() == b"\r\n":
                self.ended = True
                return False
        raise BadRequest("the body has too many lines after its last chunk")

    def _line(self) -> bytes:
        line = self._source.readline(_LONGEST_LINE)
        if not line:
            raise ClientGone("the client has gone away in the middle of a request")
        return line
