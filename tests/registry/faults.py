"""The faults of a fake registry: rules that change its answers, or how they are delivered."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Self

from tests.registry.http_server import Answer, BodyCutOff, Bytes, Request

Change = Callable[[Request, Answer], Answer | None]


class Hold:
    """Holds answers back: the request is handled, and its answer waits.

    Attributes:
        reached: set as soon as an answer waits.
    """

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._released = threading.Event()

    def wait(self) -> None:
        """Wait for `release`, for a minute at most."""
        self.reached.set()
        self._released.wait(60)

    def release(self) -> None:
        """Let all answers go, also later ones."""
        self._released.set()


class Rule:
    """What happens to certain requests. Each method adds something, and returns the rule itself.

    Attributes:
        seen: how many requests it was for.
        hits: how many of them it has changed.
    """

    def __init__(self, pattern: str, times: int | None, skip: int, server: str) -> None:
        self._pattern = re.compile(pattern)
        self._times = times
        self._skip = skip
        self._server = server
        self._lock = threading.Lock()
        self._before: list[Callable[[Request], Answer | None]] = []
        self._after: list[Change] = []
        self.seen = 0
        self.hits = 0

    def applies(self, request: Request) -> bool:
        """Count the request; return whether this rule is for it."""
        if self._server != request.server or not self._pattern.search(request.target):
            return False
        with self._lock:
            self.seen += 1
            if self.seen <= self._skip or (self._times is not None and self.hits >= self._times):
                return False
            self.hits += 1
            return True

    def before(self, request: Request) -> Answer | None:
        """Return the answer that is given instead of handling the request, if there is one."""
        for function in self._before:
            if (answer := function(request)) is not None:
                return answer
        return None

    def after(self, request: Request, answer: Answer) -> Answer:
        """Return the changed answer."""
        for change in self._after:
            answer = change(request, answer) or answer
        return answer

    def instead(self, function: Callable[[Request], Answer | None]) -> Self:
        """Do not handle the request: give this answer. For `None` it is handled."""
        self._before.append(function)
        return self

    def change(self, change: Change) -> Self:
        """Have a function change the answer in place, or return another one."""
        self._after.append(change)
        return self

    def _set(self, **values: object) -> Self:
        return self.change(lambda request, answer: vars(answer).update(values))

    # Other answers.

    def status(self, status: int, body: Bytes = b"", **headers: str) -> Self:
        """Answer with a status; `Content_Type="text/html"` is a header. Nothing else is done."""
        pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return self.instead(lambda request: Answer(status, list(pairs), body))

    def error(self, status: int, code: str, message: str = "", detail: object = None) -> Self:
        """Answer with an error as the specification has it."""
        return self.instead(lambda request: error_answer(status, code, message, detail))

    def busy(self, status: int = 429, after: int | str | None = None) -> Self:
        """Answer that there are too many requests. `after`: what stands in Retry-After."""
        headers = {} if after is None else {"Retry_After": str(after)}
        return self.status(status, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}', **headers)

    def busy_until(self, seconds_from_now: float, status: int = 503) -> Self:
        """Answer that the server is busy, with a date in Retry-After."""
        return self.instead(
            lambda request: Answer(
                status, [("Retry-After", formatdate(time.time() + seconds_from_now, usegmt=True))], b"busy"
            )
        )

    def html(self, status: int = 502) -> Self:
        """Answer with a page, as a proxy does."""
        return self.status(status, b"<html><body><h1>Bad Gateway</h1></body></html>", Content_Type="text/html")

    def body(self, body: Bytes, media_type: str | None = None) -> Self:
        """Send another body in the answer. All headers but its length stay, unless a type is given."""

        def change(request: Request, answer: Answer) -> None:
            answer.body = body
            answer.set_header("Content-Length", None)
            if media_type is not None:
                answer.set_header("Content-Type", media_type)

        return self.change(change)

    def header(self, name: str, value: str | None) -> Self:
        """Replace a header of the answer; remove it for `None`."""
        return self.change(lambda request, answer: answer.set_header(name, value))

    def warn(self, text: str) -> Self:
        """Add a header for the user."""
        return self.change(lambda request, answer: answer.headers.append(("Warning", f'299 - "{text}"')))

    def ignore_range(self) -> Self:
        """Answer a request for a part with 200 and with everything."""

        def handle(request: Request) -> None:
            del request.headers["Range"]

        return self.instead(handle)

    def wrong_range(self, value: str) -> Self:
        """Lie in Content-Range."""
        return self.change(
            lambda request, answer: answer.set_header("Content-Range", value) if answer.status == 206 else None
        )

    def flip_byte(self, at: int = 0) -> Self:
        """Send one byte of the body wrong."""

        def change(request: Request, answer: Answer) -> None:
            data = bytearray(answer.body)
            if data:
                data[at] ^= 1
            answer.body = data

        return self.change(change)

    def gzip(self) -> Self:
        """Compress the body on its way, whether or not the client accepts that."""

        def change(request: Request, answer: Answer) -> None:
            answer.body = gzip.compress(bytes(answer.body), 1)
            answer.set_header("Content-Encoding", "gzip")

        return self.change(change)

    # How an answer is delivered.

    def cut(self, after: int) -> Self:
        """Announce the whole body, and close the connection after some bytes of it."""
        return self._set(cut=after)

    def reset(self, after: int | None = None) -> Self:
        """Reset the connection: after some bytes of the body, or instead of an answer."""
        return self._set(reset=True, **({"status": 0} if after is None else {"cut": after}))

    def hang_up(self) -> Self:
        """Close the connection instead of giving an answer. The request is not handled."""
        return self.instead(lambda request: Answer(0))

    def cut_request(self, after: int) -> Self:
        """Close the connection after some bytes of the request's body. The registry keeps them if it is set to."""

        def handle(request: Request) -> None:
            read, left = request.read, after

            def pieces() -> Iterator[bytes]:
                nonlocal left
                for piece in read():
                    yield piece[:left]
                    left -= len(piece)
                    if left <= 0:
                        raise BodyCutOff

            request.read = pieces

        return self.instead(handle)

    def silent(self) -> Self:
        """Never answer. The request is not handled."""
        return self.instead(lambda request: Answer(200, silent=True))

    def raw(self, data: bytes) -> Self:
        """Send these bytes in place of an answer of HTTP. The request is not handled."""
        return self.instead(lambda request: Answer(200, raw=data))

    def short(self, missing: int) -> Self:
        """Send less of the body, and announce that."""
        return self.change(lambda request, answer: setattr(answer, "body", answer.body[: len(answer.body) - missing]))

    def long(self, extra: int) -> Self:
        """Send more than the body, and announce that."""
        return self.change(lambda request, answer: setattr(answer, "body", bytes(answer.body) + bytes(extra)))

    def without_length(self) -> Self:
        """Send the body in chunks, and announce no length."""
        return self._set(chunked=True)

    def endless(self, announced: int | None = None) -> Self:
        """Send zeros after the body for ever: in chunks, or with an announced length."""
        return self._set(endless=True, chunked=announced is None, length=announced)

    def slow(self, piece: int, pause: float) -> Self:
        """Send the body in pieces, with a pause in seconds after each."""
        return self._set(slow=(piece, pause))

    def slow_headers(self, pause: float) -> Self:
        """Send the headers byte by byte, with a pause after each."""
        return self._set(slow_headers=pause)

    def hold(self) -> Hold:
        """Hold the answers back until the test releases them."""
        held = Hold()
        self.change(lambda request, answer: answer.wait.append(held.wait))
        return held

    def then(self, function: Callable[[], object]) -> Self:
        """Call a function before the answer is sent: to change the registry in the middle of something."""
        return self.change(lambda request, answer: answer.wait.append(function))


class Faults:
    """All rules of a fake registry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def on(self, pattern: str, *, times: int | None = None, skip: int = 0, server: str = "registry") -> Rule:
        """Make a rule that does nothing yet.

        Args:
            pattern: a regular expression that is looked for in "METHOD /path" of a request.
            times: for how many requests the rule is.
            skip: how many such requests are left alone first.
            server: "registry", "storage" (where redirects lead) or "token".
        """
        rule = Rule(pattern, times, skip, server)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._rules.clear()

    def rules_for(self, request: Request) -> list[Rule]:
        """Return the rules that a request comes under, and count it."""
        with self._lock:
            rules = list(self._rules)
        return [rule for rule in rules if rule.applies(request)]


def error_answer(status: int, code: str, message: str = "", detail: object = None) -> Answer:
    """Return an error in the form that the specification gives it."""
    error = {"code": code, "message": message or code.lower().replace("_", " "), "detail": detail}
    return Answer(status, [("Content-Type", "application/json")], json.dumps({"errors": [error]}).encode())
