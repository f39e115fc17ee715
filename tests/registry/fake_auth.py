"""How a fake registry asks who its clients are: Basic, or tokens of a server of its own."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from tests.registry.faults import error_answer
from tests.registry.http_server import Answer, Request


def basic_credentials(request: Request) -> tuple[str, str] | None:
    """Return the name and the password of a request, or `None`."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name, password


@dataclass
class BasicAuth:
    """Basic authentication.

    Attributes:
        users: passwords by names.
    """

    users: Mapping[str, str]

    def check(self, request: Request, scopes: Iterable[str]) -> Answer | None:
        """Return the answer for who may not do this; `None` for who may."""
        given = basic_credentials(request)
        if given is not None and self.users.get(given[0]) == given[1]:
            return None
        answer = error_answer(401, "UNAUTHORIZED", "authentication required")
        answer.headers.append(("WWW-Authenticate", 'Basic realm="fake registry"'))
        return answer


@dataclass
class TokenAuth:
    """Tokens for scopes, as the distribution project describes them.

    Attributes:
        users: passwords by names. A user may do everything.
        anonymous: the actions that are allowed to everyone.
        expires_in: after how many seconds the answer says that a token ends. `None`: it does not say.
        lifetime: after how many seconds it really ends.
        key: the name of the token in the answer: "token" or "access_token".
        identity_tokens: the refresh tokens that are valid, with their users.
        post: the status of a POST at the token server; 200 if it understands OAuth 2.
        offer_basic: offer Basic as well, in a header before; such requests are accepted.
        realm: the address of the token server. The registry sets it.
        granted: each time a token was given: the user, or "" for everyone, and the scopes asked for.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    anonymous: tuple[str, ...] = ("pull",)
    expires_in: int | None = 60
    lifetime: float = 3600
    key: str = "token"
    identity_tokens: dict[str, str] = field(default_factory=dict)
    post: int = 200
    offer_basic: bool = False
    realm: str = ""
    service: str = "fake.registry"
    granted: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[frozenset[str], float]] = {}
        self._numbers = itertools.count()

    def expire(self) -> None:
        """Let all tokens that were given so far end now."""
        with self._lock:
            self._tokens.clear()

    def check(self, request: Request, scopes: Iterable[str]) -> Answer | None:
        """Return the answer for who may not do this; `None` for who may."""
        given = basic_credentials(request)
        if self.offer_basic and given is not None and self.users.get(given[0]) == given[1]:
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        error = ""
        if scheme.lower() == "bearer":
            with self._lock:
                allowed, end = self._tokens.get(token, (frozenset[str](), 0.0))
            if end > time.monotonic():
                if _single(scopes) <= allowed:
                    return None
                error = ',error="insufficient_scope"'
            else:
                error = ',error="invalid_token"'
        answer = error_answer(401, "UNAUTHORIZED", "authentication required")
        if self.offer_basic:
            answer.headers.append(("WWW-Authenticate", 'Basic realm="fake registry"'))
        scope = f',scope="{" ".join(scopes)}"' if scopes else ""
        challenge = f'Bearer realm="{self.realm}",service="{self.service}"{scope}{error}'
        answer.headers.append(("WWW-Authenticate", challenge))
        return answer

    def answer(self, request: Request) -> Answer:
        """Answer a request to the token server."""
        if request.method == "POST":
            if self.post != 200:
                return Answer(self.post, [], b"not here")
            form = parse_qs(request.body().decode())
            user = self.identity_tokens.get(form.get("refresh_token", [""])[0])
            if form.get("grant_type") != ["refresh_token"] or user is None:
                return Answer(401, [("Content-Type", "application/json")], b'{"error":"invalid_grant"}')
            return self._grant(user, form.get("service"), " ".join(form.get("scope", [])).split())
        given = basic_credentials(request)
        if request.headers.get("Authorization") and (given is None or self.users.get(given[0]) != given[1]):
            return error_answer(401, "UNAUTHORIZED", "incorrect username or password")
        scopes = " ".join(request.query.get("scope", [])).split()
        return self._grant(given[0] if given else "", request.query.get("service"), scopes)

    def _grant(self, user: str, service: list[str] | None, scopes: list[str]) -> Answer:
        if service != [self.service]:
            return Answer(400, [], b"unknown service")
        allowed = _single(scopes)
        if not user:
            allowed = {scope for scope in allowed if scope.rpartition(":")[2] in self.anonymous}
        token = f"token-{next(self._numbers)}"
        with self._lock:
            self._tokens[token] = frozenset(allowed), time.monotonic() + self.lifetime
            self.granted.append((user, tuple(scopes)))
        document: dict[str, object] = {self.key: token}
        if self.expires_in is not None:
            document["expires_in"] = self.expires_in
        return Answer(200, [("Content-Type", "application/json")], json.dumps(document).encode())


def _single(scopes: Iterable[str]) -> set[str]:
    """Return scopes with one action each: "repository:a:pull,push" is two."""
    return {
        f"{name}:{action}"
        for name, _, actions in (scope.rpartition(":") for scope in scopes)
        for action in actions.split(",")
    }
