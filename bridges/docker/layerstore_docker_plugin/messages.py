"""The arguments of a request: a JSON object, whose fields may be missing where they are empty."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from layerstore_docker_plugin.ids import driver_id
from layerstore_docker_plugin.problems import BadRequest

#: The longest ID or label that is taken, in characters; Docker's IDs have at most 69.
_MAX_TEXT: Final = 4096
#: The names of the parts of a range of IDs: the daemon's, and those of programs that leave out its tags.
_RANGE: Final = (("container_id", "ContainerID"), ("host_id", "HostID"), ("size", "Size"))


@dataclass
class Peer:
    """What is known of a client by earlier calls on its connection.

    Attributes:
        version: the version of the additions to Docker's protocol that it speaks; 0 for Docker.
    """

    version: int = 0


class Arguments:
    """The arguments of a call.

    Args:
        method: the method, for errors.
        fields: the arguments by name.
        body: the body of the request, where it is no JSON but a tar.
        peer: the client.
    """

    def __init__(self, method: str, fields: Mapping[str, Any], peer: Peer, body: BinaryIO | None = None) -> None:
        self.method = method
        self.peer = peer
        self.body = body
        self._fields = fields

    @classmethod
    def parse(cls, method: str, text: bytes, peer: Peer) -> Arguments:
        """Read arguments from a JSON object. Nothing at all stands for an empty object.

        Raises:
            BadRequest: it is no JSON object.
        """
        if not text.strip():
            return cls(method, {}, peer)
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"{method}: the request is not JSON: {error}") from None
        if fields is None:
            return cls(method, {}, peer)
        if not isinstance(fields, dict):
            raise BadRequest(f"{method}: the request is {type(fields).__name__}, not a JSON object")
        return cls(method, fields, peer)

    def text(self, name: str) -> str:
        """Return a text; `""` where it is missing."""
        value = self._fields.get(name)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value:
            raise BadRequest(f"{self.method}: {name} is not a text of at most {_MAX_TEXT} characters")
        return value

    def layer(self, name: str = "ID") -> str:
        """Return the driver's ID of a layer, which has to be given."""
        if not (value := self.text(name)):
            raise BadRequest(f"{self.method}: {name} is missing: it is the ID of a layer")
        return driver_id(value)

    def parent(self, name: str = "Parent") -> str:
        """Return the driver's ID of a parent; `""` for none."""
        value = self.text(name)
        return driver_id(value) if value else ""

    def flag(self, name: str, *, missing: bool = False) -> bool:
        """Return a truth value; `missing` where it is missing."""
        value = self._fields.get(name)
        if not isinstance(value, bool | None):
            raise BadRequest(f"{self.method}: {name} is neither true nor false")
        return missing if value is None else value

    def texts(self, name: str) -> list[str]:
        """Return a list of texts; empty where it is missing."""
        value = self._list(name)
        if not all(isinstance(one, str) for one in value):
            raise BadRequest(f"{self.method}: {name} is not a list of texts")
        return value

    def numbers(self, name: str) -> list[int]:
        """Return a list of whole numbers; empty where it is missing."""
        value = self._list(name)
        if not all(type(one) is int for one in value):
            raise BadRequest(f"{self.method}: {name} is not a list of whole numbers")
        return value

    def is_given(self, name: str) -> bool:
        """Return whether a field is there, and not null."""
        return self._fields.get(name) is not None

    def table(self, name: str) -> dict[str, str]:
        """Return texts by name; empty where they are missing."""
        value = self._fields.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise BadRequest(f"{self.method}: {name} is not an object of texts")
        return value

    def ranges(self, name: str) -> list[str]:
        """Return ranges of user or group IDs, as the settings of a store have them: `container:host:length`.

        The daemon writes `container_id`, `host_id` and `size` (moby, `pkg/idtools/idtools.go`).
        """
        made = []
        for one in self._list(name):
            numbers = [_number(one, *words) for words in _RANGE] if isinstance(one, dict) else [None]
            if None in numbers:
                raise BadRequest(f"{self.method}: {name} has {one!r}, which has no container_id, host_id and size")
            made.append(":".join(map(str, numbers)))
        return made

    def _list(self, name: str) -> list[Any]:
        value = self._fields.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise BadRequest(f"{self.method}: {name} is not a list")
        return value


def _number(fields: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of the fields that is there; `None` where it is no ID."""
    value = next((fields[name] for name in names if name in fields), None)
    return value if type(value) is int and 0 <= value < 1 << 32 else None
