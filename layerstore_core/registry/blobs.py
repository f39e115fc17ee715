"""Reading a blob: its ranges are checked, and a transfer that breaks goes on where it stopped."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from layerstore_core.registry.errors import InvalidAnswer, RegistryUnavailable
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.broken import ConnectionFailed
from layerstore_core.registry.http.call import Call
from layerstore_core.registry.http.session import Session

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)
_BEYOND = re.compile(r"bytes \*/(\d{1,19})", re.ASCII)
#: A transfer that has given so many bytes since it broke may break as often again, as if it were new.
_PROGRESS: Final = 1 << 20
#: How often a server that ignores ranges may send again from the start what was already read.
_REPEATED: Final = 3


@dataclass(frozen=True, slots=True)
class BlobCall:
    """Which bytes of which blob are asked for.

    Attributes:
        repository: the repository.
        digest: the digest of the blob.
        start: the offset of the first byte.
        end: the offset after the last byte; `None` for all up to the blob's end.
        size: the size that the blob must have; `None` if it is not known.
    """

    repository: str
    digest: str
    start: int = 0
    end: int | None = None
    size: int | None = None

    def call(self, position: int) -> Call:
        """Return the request for the bytes from a position on."""
        ranged = position > 0 or self.end is not None
        last = "" if self.end is None else self.end - 1
        return Call(
            method="GET",
            repository=self.repository,
            path=f"blobs/{self.digest}",
            what=f"read the blob {self.repository}@{self.digest}",
            headers={"Range": f"bytes={position}-{last}"} if ranged else {},
            accept=frozenset({200, 206, 416}) if ranged else frozenset({200}),
            by_digest=True,
        )


@dataclass(slots=True)
class _Body:
    """A body that has begun: the answer, the offset of its first byte, of its end, and the size of the blob."""

    answer: Answer
    start: int
    end: int | None
    size: int | None


class BlobResponse:
    """The bytes of a blob, or of a range of it. They are not verified: the caller compares their digest.

    If the connection breaks, `read` asks for the rest and goes on; the caller does not notice.

    Args:
        session: where the blob is asked for.
        asked: which bytes.

    Attributes:
        start: the offset in the blob of the first byte that `read` returns: what was asked for, or 0 if the registry
            does not know ranges.
        size: the size of the whole blob; `None` if the registry does not say.
        position: the offset of the next byte.

    Raises:
        RegistryError: the registry does not give it.
    """

    def __init__(self, session: Session, asked: BlobCall) -> None:
        self._session = session
        self._asked = asked
        self._pauses = session.pauses()
        self._repeats = _REPEATED
        self._since_break = 0
        self.size = asked.size
        self._body = body = session.read(asked.call(asked.start), self._opened(asked.start))
        self.start = self.position = body.start
        self.size = body.size if body.size is not None else asked.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def read(self, size: int = 1 << 20) -> bytes:
        """Return some bytes, `size` at most; none at the end. It is quickest with a `size` of 256 KiB or more.

        Raises:
            RegistryUnavailable: the connection broke, and further attempts failed.
            InvalidAnswer: the registry sends another number of bytes than the blob has.
        """
        while True:
            end = self._end
            if end is not None and self.position >= end:
                self._finish(end)
                return b""
            try:
                data = self._body.answer.read(size if end is None else min(size, end - self.position))
            except ConnectionFailed as error:
                self._resume(error.reason)
                continue
            if data:
                self.position += len(data)
                self._since_break += len(data)
                return data
            if end is None:
                self.size = self.position
                return b""
            self._resume(f"it sent {self.position} bytes of {end}")

    def distrust(self) -> bool:
        """Report that the bytes were wrong, and return whether another server can be asked for the blob.

        If they came from a mirror, it is not asked for a while.
        """
        return self._body.answer.distrust()

    def close(self) -> None:
        """End the transfer."""
        self._body.answer.close()

    @property
    def _end(self) -> int | None:
        """The offset at which the reading ends."""
        known = [end for end in (self._asked.end, self.size) if end is not None]
        return min(known, default=None)

    def _finish(self, end: int) -> None:
        """Check that the body ends where the blob ends, if the server did not say how long it is."""
        body = self._body
        if body.end is None and self.size == end:
            try:
                more = body.answer.read(1)
            except ConnectionFailed:
                more = b""
            if more:
                body.answer.close()
                raise self._invalid(f"it sends more than the {end} bytes of the blob")
            body.end = end
        body.answer.close()

    def _resume(self, reason: str) -> None:
        """Ask for the rest, after a pause."""
        self._body.answer.close()
        self._body.answer.rest()
        call = self._asked.call(self.position)
        if self._since_break >= _PROGRESS:
            self._pauses.allow_again()
        self._since_break = 0
        self._body = body = self._go_on(call, reason)
        if body.start < self.position:
            self._repeats -= 1
            if self._repeats < 0:
                body.answer.close()
                raise RegistryUnavailable(
                    self._session.host,
                    f"cannot {call.what} to its end: {reason}, and it cannot go on in the middle of a blob",
                )
            self._skip(self.position - body.start)

    def _go_on(self, call: Call, reason: str) -> _Body:
        """Ask for the rest. A registry that cannot be reached may be starting again: have patience if bytes came."""
        failure = RegistryUnavailable(self._session.host, f"cannot {call.what} to its end: {reason}")
        while self._pauses.wait():
            try:
                return self._session.read(call, self._opened(self.position))
            except RegistryUnavailable as error:
                if error.status is not None or self.position == self.start:
                    raise
                failure = error
        raise failure

    def _skip(self, count: int) -> None:
        while count:
            try:
                data = self._body.answer.read(min(count, 1 << 20))
            except ConnectionFailed as error:
                return self._resume(error.reason)
            if not data:
                return self._resume("the body of its answer was cut")
            count -= len(data)
        return None

    def _opened(self, start: int) -> Callable[[Answer], _Body]:
        """Return a function that checks the headers of an answer to a request for the bytes from `start` on."""

        def check(answer: Answer) -> _Body:
            try:
                body = self._checked(answer, start)
            except BaseException:
                answer.close()
                raise
            return body

        return check

    def _checked(self, answer: Answer, start: int) -> _Body:
        length = answer.length
        if answer.header("Content-Encoding") not in ("", "identity"):
            raise self._invalid("it sends the blob in another encoding, though it was asked not to")
        if answer.status == 200:
            self._check_size(length)
            return _Body(answer, 0, length, length)
        if answer.status == 416:
            beyond = _BEYOND.fullmatch(answer.header("Content-Range"))
            total = int(beyond[1]) if beyond else self.size
            if total != start:
                raise self._invalid(f"it has no bytes from {start} on" + (f", but {total} in all" if beyond else ""))
            self._check_size(total)
            answer.close()
            return _Body(answer, start, start, total)
        found = _CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
        if not found:
            raise self._invalid("it does not say which part of the blob it sends")
        first, last = int(found[1]), int(found[2])
        total = None if found[3] == "*" else int(found[3])
        self._check_size(total)
        if first != start or last < first or (total is not None and last >= total):
            raise self._invalid(f"it was asked for the bytes from {start} on, and sends {found[0]!r}")
        if length is not None and length != last + 1 - first:
            raise self._invalid(f"it says that it sends {found[0]!r}, and a body of {length} bytes")
        return _Body(answer, first, last + 1, total)

    def _check_size(self, size: int | None) -> None:
        if size is not None and self.size is not None and size != self.size:
            raise self._invalid(f"the blob has {size} bytes there, not {self.size}")

    def _invalid(self, reason: str) -> InvalidAnswer:
        what = f"read the blob {self._asked.repository}@{self._asked.digest}"
        return InvalidAnswer(self._session.host, f"cannot {what}: {reason}")
