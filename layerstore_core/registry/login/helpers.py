"""Programs that keep credentials: `docker-credential-NAME`.

The protocol is that of github.com/docker/docker-credential-helpers: the action is the argument; the registry, or JSON,
is the input; JSON is the output. An error is a text on standard output.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import Any, Final

from layerstore_core.errors import ConfigError
from layerstore_core.registry.files.servers import names_of
from layerstore_core.registry.login.model import HUB_KEY, Credentials
from layerstore_core.text import printable

#: How long a program may take, in seconds: it may ask the user for the password of its store.
_TIMEOUT: Final = 120.0
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_NOT_FOUND: Final = "credentials not found"
#: The user name that says that the secret is an identity token.
TOKEN: Final = "<token>"
#: The most of a program's error text that is shown.
_SHOWN: Final = 200


class Helper:
    """One program.

    Args:
        name: its name, without `docker-credential-`.
        file: the file that names it, for messages.
    """

    def __init__(self, name: str, file: str) -> None:
        self.program = f"docker-credential-{name}"
        self._name = name
        self._file = file

    def __str__(self) -> str:
        return f"{self.program} (named in {self._file})"

    def get(self, host: str) -> Credentials | None:
        """Return the credentials for a registry; `None` if it has none.

        Raises:
            ConfigError: the program is missing, fails, takes too long, or answers with something else.
        """
        for key in _keys(host):
            answer = self._run("get", key)
            if answer is None:
                continue
            found = self._object(answer)
            username, secret = found.get("Username"), found.get("Secret")
            if not isinstance(username, str) or not isinstance(secret, str):
                raise self._error("its answer has no Username and Secret")
            if not secret:
                continue
            if username == TOKEN:
                return Credentials(username="", identity_token=secret, source=str(self))
            return Credentials(username=username, password=secret, source=str(self))
        return None

    def store(self, host: str, credentials: Credentials) -> None:
        """Have it keep credentials; errors as from `get`."""
        token = credentials.identity_token
        document = {
            "ServerURL": _keys(host)[0],
            "Username": TOKEN if token else credentials.username,
            "Secret": token or credentials.password,
        }
        if self._run("store", json.dumps(document), secret=document["Secret"]) is None:
            raise self._error("it does not keep them")

    def erase(self, host: str) -> bool:
        """Have it forget the credentials for a registry; return whether it had any; errors as from `get`."""
        if self.get(host) is None:
            return False
        for key in _keys(host):
            self._run("erase", key)
        return True

    def hosts(self) -> list[str]:
        """Return the keys of all credentials that it has; errors as from `get`."""
        answer = self._run("list", "")
        return [] if answer is None else [*self._object(answer or b"{}")]

    def _run(self, action: str, given: str, *, secret: str = "") -> bytes | None:
        """Run the program, and return its output; `None` if it has no such credentials."""
        import subprocess  # lazy: few users have such a program

        if not _NAME.fullmatch(self._name):
            raise ConfigError(f"{self._file}: {self._name!r} cannot be the name of a credential helper; correct it")
        program = shutil.which(self.program)
        if program is None:
            raise ConfigError(
                f"{self._file} names the credential helper {self._name!r}, but {self.program} is not in PATH; install "
                "it, or remove it from that file"
            )
        try:
            done = subprocess.run(
                [program, action], input=given.encode(), capture_output=True, timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise self._error(f"it has not answered {action!r} for {_TIMEOUT:.0f} seconds") from None
        except OSError as error:
            raise self._error(f"it cannot be run: {error.strerror}") from None
        if done.returncode == 0:
            return done.stdout
        said = (done.stdout or done.stderr).decode(errors="replace").strip()
        if _NOT_FOUND in said:
            return None
        raise self._error(f"it has failed at {action!r} with exit code {done.returncode}{_shown(said, secret)}")

    def _object(self, answer: bytes) -> dict[str, Any]:
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._error("its answer is not a JSON object")
        return found

    def _error(self, what: str) -> ConfigError:
        return ConfigError(f"the credential helper {self}: {what}; run it by hand to see why")


def _keys(host: str) -> list[str]:
    """Return the keys to ask for: Docker's own for Docker Hub."""
    names = names_of(host)
    return [host] if len(names) == 1 else [HUB_KEY, names[0]]


def _shown(said: str, secret: str) -> str:
    """Return the error text of a program for a message; nothing if it may hold a secret."""
    line = said.partition("\n")[0][:_SHOWN]
    if not line or "{" in line or "secret" in line.lower() or (secret and secret in said):
        return ""
    return f": {printable(line)}"
