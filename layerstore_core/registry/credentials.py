"""Credentials for registries, from the files of Docker and of podman.

The files are Docker's `config.json` and podman's `auth.json` (containers-auth.json(5)). Both have the same form:
`{"auths": {"HOST": {"auth": "<base64 of USER:PASSWORD>"}}}`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from layerstore_core.errors import ConfigError

#: The key of Docker Hub in Docker's file.
_HUB_KEY: Final = "https://index.docker.io/v1/"
_HUB_NAMES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a registry, or its token server, is shown.

    Attributes:
        username: the user's name; may be empty with an identity token.
        password: the password; empty if there is an identity token.
        identity_token: a token that is exchanged for others at the token server; empty for none.
        source: where it was found.
    """

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)


def credentials_for(host: str, repository: str = "") -> Credentials | None:
    """Return the credentials for a repository; `None` if there are none.

    Args:
        host: the registry, as in names of images: `docker.io`, `registry.example.com:5000`.
        repository: the repository. `auth.json` may have credentials for some repositories only.

    Raises:
        ConfigError: a file cannot be read.
    """
    for path in _files():
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            continue
        try:
            auths: dict[str, Any] = json.loads(text).get("auths", {})
        except ValueError as error:
            raise ConfigError(f"{path}: not JSON: {error}") from None
        for key in _keys(host, repository):
            if (entry := auths.get(key)) and (found := _decoded(entry, str(path))):
                return found
    return None


def _files() -> Iterator[Path]:
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
        return
    yield Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}") / "containers" / "auth.json"
    yield Path("~/.config/containers/auth.json").expanduser()
    yield Path(os.environ.get("DOCKER_CONFIG") or Path("~/.docker").expanduser()) / "config.json"


def _keys(host: str, repository: str) -> Iterator[str]:
    names = ["docker.io", "index.docker.io"] if host in _HUB_NAMES else [host]
    parts = repository.split("/") if repository else []
    for count in range(len(parts), -1, -1):
        yield from ("/".join([name, *parts[:count]]) for name in names)
    if host in _HUB_NAMES:
        yield _HUB_KEY


def _decoded(entry: dict[str, Any], source: str) -> Credentials | None:
    try:
        username, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise ConfigError(f"{source}: an entry is damaged; log in again") from None
    token = entry.get("identitytoken", "")
    if not (username or token):
        return None
    return Credentials(username=username, password="" if token else password, identity_token=token, source=source)
