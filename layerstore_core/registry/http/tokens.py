"""Token servers: a token for some scopes, with a password, an identity token, or for everyone.

The calls are those that the distribution project describes: GET with Basic, or POST of OAuth 2 (RFC 6749, section 6).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from layerstore_core.registry.credentials import Credentials
from layerstore_core.registry.errors import InvalidAnswer, RegistryDenied, RegistryError
from layerstore_core.registry.hosts import is_loopback
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.broken import ConnectionFailed, TooLong
from layerstore_core.registry.http.challenges import Challenge, joined_scopes
from layerstore_core.registry.http.connections import Method
from layerstore_core.registry.http.failures import errors_in
from layerstore_core.registry.http.retries import TRY_AGAIN, asked_pause
from layerstore_core.registry.http.secrets import Secrets
from layerstore_core.registry.http.urls import BadURL, join, origin, with_query

_MAX_ANSWER: Final = 1 << 20
_MAX_TOKEN: Final = 64 << 10
_CLIENT: Final = "layerstore"
#: How long a token is valid whose server does not say it, in seconds: the distribution project's rule.
_DEFAULT_LIFE: Final = 60.0
_MAX_REDIRECTS: Final = 5

#: Sends a request to another server: method, URL, headers and body.
Send = Callable[[Method, str, Mapping[str, str], bytes | None], Answer]


@dataclass(frozen=True, slots=True)
class Token:
    """A token.

    Attributes:
        value: what goes into the header.
        ends: when it should not be used any more, by `time.monotonic`.
    """

    value: str = field(repr=False)
    ends: float


class TokenServer:
    """Asks token servers.

    Args:
        host: the registry, for messages.
        encrypted: whether the registry is asked with TLS.
        send: sends a request.
        secrets: gets each secret.
    """

    def __init__(self, host: str, encrypted: bool, send: Send, secrets: Secrets) -> None:
        self._host = host
        self._encrypted = encrypted
        self._send = send
        self._secrets = secrets

    def token(self, bearer: Challenge, scopes: frozenset[str], credentials: Credentials | None) -> Token:
        """Return a new token.

        Args:
            bearer: the registry's challenge, which names the token server.
            scopes: the rights that are wanted, each with one action.
            credentials: who wants them; `None` for everyone.

        Raises:
            RegistryDenied: the token server refuses.
            InvalidAnswer: what it answers has no token.
            ConnectionFailed: it cannot be asked now.
        """
        try:
            realm = join(bearer.values.get("realm", ""), bearer.values.get("realm", ""))
        except BadURL as error:
            raise InvalidAnswer(self._host, f"it names a token server with a wrong URL: {error}") from None
        server = urlsplit(realm).netloc
        if credentials is not None and self._encrypted and realm.startswith("http://") and not is_loopback(server):
            raise RegistryDenied(
                self._host, f"its token server {server} is asked without TLS: the password is not sent there"
            )
        asked = time.monotonic()
        service = bearer.values.get("service", "")
        with self._answer(realm, service, joined_scopes(scopes), credentials) as answer:
            document = self._document(server, answer, credentials)
        return self._parsed(server, document, asked)

    def _answer(self, realm: str, service: str, scopes: list[str], credentials: Credentials | None) -> Answer:
        named = [("service", service)] if service else []
        if credentials is not None and credentials.identity_token:
            self._secrets.add(credentials.identity_token)
            form = [
                ("grant_type", "refresh_token"),
                *named,
                ("client_id", _CLIENT),
                ("scope", " ".join(scopes)),
                ("refresh_token", credentials.identity_token),
            ]
            answer = self._send(
                "POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode()
            )
            if answer.status not in (404, 405):
                return answer
            answer.close()
        query = [*named, *(("scope", scope) for scope in scopes)]
        headers = {}
        if credentials is not None:
            if credentials.username:
                query.append(("account", credentials.username))
            secret = credentials.password or credentials.identity_token
            headers["Authorization"] = self._secrets.basic(credentials.username, secret)
        return self._get(with_query(realm, query), headers)

    def _get(self, url: str, headers: Mapping[str, str]) -> Answer:
        for _ in range(_MAX_REDIRECTS):
            answer = self._send("GET", url, headers, None)
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            with answer:
                try:
                    after = join(url, answer.header("Location"))
                except BadURL as error:
                    raise InvalidAnswer(self._host, f"its token server redirects to a wrong URL: {error}") from None
            if origin(after) != origin(url):
                headers = {}
            url = after
        raise InvalidAnswer(self._host, f"its token server redirects more than {_MAX_REDIRECTS} times")

    def _document(self, server: str, answer: Answer, credentials: Credentials | None) -> Any:
        if answer.status in TRY_AGAIN:
            raise ConnectionFailed(
                f"its token server {server} answers HTTP {answer.status}",
                pause=asked_pause(answer.header("Retry-After")),
            )
        if answer.status != 200:
            told = self._secrets.hide("; ".join(errors_in(answer)[1]))
            raise self._refused(server, answer.status, f" ({told})" if told else "", credentials)
        try:
            return json.loads(answer.whole(_MAX_ANSWER))
        except (TooLong, ValueError, RecursionError):
            return None

    def _refused(self, server: str, status: int, told: str, credentials: Credentials | None) -> RegistryError:
        if status in (400, 401, 403) and credentials is not None:
            user = credentials.username or "the identity token"
            return RegistryDenied(
                self._host,
                f"its token server {server} does not take the credentials of {user}"
                f"{f' from {credentials.source}' if credentials.source else ''}{told};"
                f" log in again: layerstore login {self._host}",
                status=status,
            )
        if status in (401, 403):
            return RegistryDenied(
                self._host,
                f"its token server {server} gives nothing to everyone{told}; log in: layerstore login {self._host}",
                status=status,
            )
        return RegistryError(self._host, f"its token server {server} answers HTTP {status}{told}", status=status)

    def _parsed(self, server: str, document: Any, asked: float) -> Token:
        values = document if isinstance(document, dict) else {}
        value = values.get("token") or values.get("access_token")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or len(value) > _MAX_TOKEN:
            raise InvalidAnswer(self._host, f"the answer of its token server {server} has no token")
        self._secrets.add(value)
        life = values.get("expires_in")
        if not isinstance(life, (int, float)) or isinstance(life, bool) or not 0 < life < 1e9:
            life = _DEFAULT_LIFE
        # It must still be valid when the request arrives.
        return Token(value, asked + life - min(10.0, life / 4))
