"""Authentication at one server: which header `Authorization` a request gets, and what to do about a 401.

The schemes are Basic (RFC 7617), and the tokens of Docker's registries: a 401 names a token server, which gives tokens
for scopes such as `repository:library/debian:pull`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from layerstore_core.registry.credentials import Credentials
from layerstore_core.registry.errors import RegistryError
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.challenges import Challenge, parse_challenges
from layerstore_core.registry.http.secrets import Secrets
from layerstore_core.registry.http.tokens import Token, TokenServer

Scopes = frozenset[str]
_SCHEMES: Final = ("bearer", "basic")


@dataclass(slots=True)
class _Rights:
    """What is known about one set of scopes: the token for it, and what the server wants besides."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: Token | None = None
    also: Scopes = frozenset()


class Authenticator:
    """The authentication at one server. Nothing is sent before the server asks for it. Threads share it.

    Args:
        credentials: returns the credentials for a repository, or `None`.
        tokens: asks token servers.
        secrets: gets each secret.
    """

    def __init__(self, credentials: Callable[[str], Credentials | None], tokens: TokenServer, secrets: Secrets) -> None:
        self._find = credentials
        self._tokens = tokens
        self._secrets = secrets
        self._lock = threading.RLock()
        self._credentials: dict[str, Credentials | None] = {}
        self._rights: dict[tuple[str, Scopes], _Rights] = {}
        #: What the server last asked for; empty as long as it has not asked.
        self._offered: dict[str, Challenge] = {}
        self._without_bearer = False

    def header(self, repository: str, scopes: Scopes) -> str:
        """Return the header for a request; empty for none.

        Args:
            repository: the repository, which decides on the credentials.
            scopes: the rights that the request needs.

        Raises:
            RegistryDenied: the token server does not take the credentials.
            ConnectionFailed: it cannot be asked now.
        """
        credentials = self.credentials(repository)
        bearer, basic = (self._offered.get(scheme) for scheme in _SCHEMES)
        if bearer is not None and not self._without_bearer:
            try:
                return f"Bearer {self._token(bearer, repository, scopes, credentials)}"
            except RegistryError:
                if basic is None or credentials is None or not credentials.password:
                    raise
                self._without_bearer = True
        if basic is not None and credentials is not None and (credentials.password or credentials.username):
            return self._secrets.basic(credentials.username, credentials.password or credentials.identity_token)
        return ""

    def learn(self, answer: Answer, repository: str, scopes: Scopes, sent: str) -> bool:
        """Look at a 401, and return whether the request may succeed if it is sent again, with another header.

        Args:
            answer: the answer.
            repository: as for `header`.
            scopes: as for `header`.
            sent: the header that was sent.
        """
        offered: dict[str, Challenge] = {}
        for challenge in parse_challenges(answer.header("WWW-Authenticate")):
            offered.setdefault(challenge.scheme, challenge)
        if not any(scheme in offered for scheme in _SCHEMES):
            return False
        with self._lock:
            self._offered = offered
        bearer = offered.get("bearer")
        if bearer is None or self._without_bearer:
            # The same password is not sent twice.
            return not sent.startswith("Basic ") and self.credentials(repository) is not None
        rights = self._rights_for(repository, scopes)
        with rights.lock:
            wanted = scopes | bearer.scopes
            known = wanted <= scopes | rights.also
            rights.also |= bearer.scopes
            if sent.startswith("Bearer "):
                if known and bearer.values.get("error") == "insufficient_scope":
                    return False
                # Another thread may have got a new token in the meantime.
                if rights.token is not None and sent == f"Bearer {rights.token.value}":
                    rights.token = None
        return True

    def credentials(self, repository: str) -> Credentials | None:
        """Return the credentials for a repository; `None` if there are none."""
        with self._lock:
            if repository not in self._credentials:
                self._credentials[repository] = self._find(repository)
            return self._credentials[repository]

    def _token(self, bearer: Challenge, repository: str, scopes: Scopes, credentials: Credentials | None) -> str:
        rights = self._rights_for(repository, scopes)
        with rights.lock:
            if rights.token is None or rights.token.ends <= time.monotonic():
                rights.token = self._tokens.token(bearer, scopes | rights.also, credentials)
            return rights.token.value

    def _rights_for(self, repository: str, scopes: Scopes) -> _Rights:
        with self._lock:
            return self._rights.setdefault((repository, scopes), _Rights())
