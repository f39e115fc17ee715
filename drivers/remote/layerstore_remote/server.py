"""A server of the graph driver plugin protocol: which additions it has, and its methods as Python's functions.

Docker's methods are as moby's `daemon/graphdriver/proxy.go` calls them. The additions are those of layerstore's
`docs/reference/graph-driver-protocol.md`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from layerstore_remote.answers import Answer
from layerstore_remote.connections import Connections
from layerstore_remote.errors import BadAnswer, OtherHome, ServerError, quoted

if TYPE_CHECKING:
    from layerstore_core import IDMapping, LayerStream
    from layerstore_remote.sockets import UnixConnection

_VERSION: Final = 1
_SHORT: Final = 1 << 20
#: The longest list of changes, or of layers, in bytes: some hundred thousand of them. A hostile one may take twenty
#: times as much as Python objects.
_LONG: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server has said of itself.

    Attributes:
        version: the version of the additions; 0 for a server with Docker's methods alone.
        driver: the driver's name; empty if it is not known.
        directory: the driver's home at the server; empty if it is not known.
        methods: the names of the additional methods that it has.
    """

    version: int = 0
    driver: str = ""
    directory: str = ""
    methods: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The server's driver in words."""
        if not self.version:
            return "a driver that only Docker's methods lead to"
        return f"driver {self.driver} in {self.directory}" if self.directory else f"driver {self.driver}"


class Server:
    """The server of one driver instance. Connections are made when they are needed.

    Args:
        address: the server's socket.
        connect_timeout, timeout: see `Connections`.
        home: the directory that `GraphDriver.Init` names.
        id_mapping: how IDs in layers correspond to IDs on disk.
        recognize: called with the calls of each new connection: raises an exception if the server is not the one that
            has the store's layers.
    """

    def __init__(
        self,
        address: str,
        *,
        connect_timeout: float,
        timeout: float,
        home: str,
        id_mapping: IDMapping,
        recognize: Callable[[Caller, Facts, int], None],
    ) -> None:
        self.address: Final = address
        self.home: Final = home
        self._id_mapping = id_mapping
        self._recognize = recognize
        self._facts: Facts | None = None
        self.connections: Final = Connections(address, connect_timeout, timeout, self._greet)

    @property
    def facts(self) -> Facts:
        """What the server says of itself; it is asked if it was not yet."""
        if self._facts is None:
            connection = self.connections.take()
            self.connections.give_back(connection)
        assert self._facts is not None
        return self._facts

    def call(self, method: str, *, long: bool = False, repeatable: bool = False, **fields: Any) -> Answer:
        """Call a method, and return its answer.

        Args:
            method: its name.
            long: whether the answer may be a long list.
            repeatable: whether a second call does no harm.
            fields: what is asked.

        Raises:
            ServerUnavailable, BadAnswer: there is no answer, or it is none of the protocol.
            Exception: the error that the server has answered with.
        """
        status, body = self.connections.call(
            method, _document(fields), _LONG if long else _SHORT, repeatable=repeatable
        )
        return self._checked(method, status, body)

    def has(self, method: str) -> bool:
        """Return whether the server has an additional method."""
        return method in self.facts.methods

    def apply_diff(self, layer_id: str, parent_id: str, stream: LayerStream) -> int:
        """Send a layer's tar, and return the size that the server answers. Errors are those of `call`."""
        method = "GraphDriver.ApplyDiff"
        query = {"id": layer_id, "parent": parent_id}
        return self._checked(method, *self.connections.send_stream(method, query, stream)).size("Size")

    def diff(self, layer_id: str, parent_id: str) -> io.BufferedReader:
        """Return the tar of a layer's changes. Errors are those of `call`."""
        method = "GraphDriver.Diff"
        found = self.connections.read_stream(method, _document({"ID": layer_id, "Parent": parent_id}))
        if isinstance(found, tuple):
            self._checked(method, *found)
            raise ServerError(f"the server at {self.address} answers {method} with status {found[0]}")
        return found

    def _checked(self, method: str, status: int, body: bytes) -> Answer:
        answer = Answer(self.address, method, status, body)
        error = answer.error()
        if error is not None:
            raise error
        return answer

    def _greet(self, connection: UnixConnection) -> None:
        """Find out what the server at a new connection is, and have it ready for calls."""
        caller = Caller(self, connection)
        if self._facts is None:
            kinds = caller.call("Plugin.Activate").texts("Implements")
            if kinds and "GraphDriver" not in kinds:
                raise ServerError(
                    f"the server at {self.address} is no graph driver, but {quoted(', '.join(kinds))}: name another "
                    "socket with the option address"
                )
        known = self._facts
        # A server without additions is not asked again: some close the connection after such a question.
        facts = known or Facts()
        if known is None or known.version:
            facts = _facts_of(caller.ask("Layerstore.Version", Versions=[_VERSION]))
        if known is not None and (known.version, known.driver) != (facts.version, facts.driver):
            raise OtherHome(
                f"the server at {self.address} has {facts.text} now, and had {known.text} when this store was opened: "
                "start it as it was, or open the store again"
            )
        caller.call(
            "GraphDriver.Init",
            Home=self.home,
            Opts=None,
            UIDMaps=_ranges(self._id_mapping.uids),
            GIDMaps=_ranges(self._id_mapping.gids),
        )
        self._recognize(caller, facts, connection.peer_user)
        self._facts = facts


class Caller:
    """Calls on one connection, while it is not ready for others yet."""

    def __init__(self, server: Server, connection: UnixConnection) -> None:
        self._server = server
        self._connection = connection

    def ask(self, method: str, **fields: Any) -> Answer | None:
        """Call a method that the server may lack. Return `None` if it does.

        Raises:
            Lost: the server has ended the connection.
            ServerUnavailable, BadAnswer: as for `Server.call`.
        """
        status, body = self._server.connections.call_on(self._connection, method, _document(fields), _SHORT)
        try:
            return Answer(self._server.address, method, status, body)
        except BadAnswer:
            return None

    def call(self, method: str, **fields: Any) -> Answer:
        """Call a method, and return its answer. Errors are those of `Server.call`, and `Lost`."""
        status, body = self._server.connections.call_on(self._connection, method, _document(fields), _SHORT)
        answer = Answer(self._server.address, method, status, body)
        error = answer.error()
        if error is not None:
            raise error
        return answer


def _facts_of(answer: Answer | None) -> Facts:
    """Return what a server has said of itself. A server without additions answers 404, an error, or anything else."""
    try:
        if answer is None or answer.error() is not None or answer.get("Version", int, 0) != _VERSION:
            return Facts()
        return Facts(
            _VERSION,
            answer.get("Driver", str, ""),
            answer.get("Directory", str, ""),
            frozenset(answer.texts("Methods")),
        )
    except BadAnswer:
        return Facts()


def _document(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def _ranges(ranges: Any) -> list[dict[str, int]] | None:
    found = [{"container_id": one.container, "host_id": one.host, "size": one.length} for one in ranges]
    return found or None
