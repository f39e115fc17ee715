"""A token server for docker-registry: JSON Web Tokens, signed by the program openssl (RS256, with x5c)."""

from __future__ import annotations

import base64
import itertools
import json
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.registry.certificates import Pair
from tests.registry.fake_auth import basic_credentials
from tests.registry.faults import error_answer
from tests.registry.http_server import Answer, Log, Request, Server

ISSUER = "tests"
SERVICE = "registry.tests"


class JWTServer:
    """Gives tokens: all rights to users, and to everyone else those of `anonymous`.

    Args:
        pair: signs the tokens. The registry has to trust its certificate.
        users: passwords by names.
        anonymous: the actions that are allowed to everyone.

    Attributes:
        lifetime: for how many seconds tokens are valid, and what they say.
    """

    def __init__(self, pair: Pair, users: Mapping[str, str], anonymous: tuple[str, ...] = ()) -> None:
        self.log = Log()
        self.lifetime = 60
        self._pair = pair
        self._users = users
        self._anonymous = anonymous
        self._numbers = itertools.count()
        self._server = Server("token", self._answer, self.log)
        self.realm = f"{self._server.url}/token"

    def close(self) -> None:
        """Stop."""
        self._server.close()
        assert not self._server.failures, self._server.failures[0]

    def _answer(self, request: Request) -> Answer:
        if request.method != "GET":
            return Answer(405)
        given = basic_credentials(request)
        if request.headers.get("Authorization") and (given is None or self._users.get(given[0]) != given[1]):
            return error_answer(401, "UNAUTHORIZED", "incorrect username or password")
        access = []
        for scope in " ".join(request.query.get("scope", [])).split():
            rest, _, actions = scope.rpartition(":")
            kind, _, name = rest.partition(":")
            allowed = [action for action in actions.split(",") if given or action in self._anonymous]
            access.append({"type": kind, "name": name, "actions": allowed})
        token = self._token(given[0] if given else "", request.argument("service") or "", access)
        document = {"token": token, "expires_in": self.lifetime}
        return Answer(200, [("Content-Type", "application/json")], json.dumps(document).encode())

    def _token(self, user: str, service: str, access: list[dict[str, object]]) -> str:
        now = int(time.time())
        certificate = ssl.PEM_cert_to_DER_cert(self._pair.certificate.read_text())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(certificate).decode()]}
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": service,
            "jti": str(next(self._numbers)),
            "access": access,
            "exp": now + self.lifetime,
            "nbf": now - 10,
            "iat": now,
        }
        text = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self._pair.key)]
        signed = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
        return f"{text}.{_base64(signed.stdout)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def jwt_server(pair: Pair, users: Mapping[str, str], anonymous: tuple[str, ...] = ()) -> Iterator[JWTServer]:
    """Run a token server for the length of a `with` block."""
    server = JWTServer(pair, users, anonymous)
    try:
        yield server
    finally:
        server.close()
