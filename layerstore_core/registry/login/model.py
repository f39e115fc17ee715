"""What a registry is shown, and the names under which it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from layerstore_core.registry.files.servers import HUB, names_of

#: The key of Docker Hub in Docker's file, and for its programs.
HUB_KEY: Final = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a registry, or its token server, is shown.

    Attributes:
        username: the user's name; may be empty with an identity token.
        password: the password; empty if there is an identity token.
        identity_token: a token that is exchanged for others at the token server; empty for none.
        source: the file, and the program if one keeps them.
    """

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)


def keys_of(host: str, repository: str = "") -> Iterator[str]:
    """Yield the keys under which credentials for a repository may be kept, the most special one first."""
    names = names_of(host)
    parts = repository.split("/") if repository else []
    for count in range(len(parts), -1, -1):
        yield from ("/".join([name, *parts[:count]]) for name in names)
    if names[0] == HUB:
        yield HUB_KEY


def host_in(key: str) -> str:
    """Return the host that a key means, or the host with a repository: old keys are URLs."""
    bare = key.removeprefix("https://").removeprefix("http://")
    return bare if bare == key else bare.partition("/")[0]
