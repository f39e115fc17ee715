"""What is asked of a registry: one request, before it is known which server gets it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.http.connections import Method
from layerstore_core.registry.http.urls import quoted, with_query

Body = bytes | Callable[[], Iterable[bytes]] | None

_NOTHING: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request to a registry.

    Attributes:
        method: the HTTP method.
        repository: the repository; empty for what belongs to none.
        path: the path below the repository, such as `manifests/latest`.
        url: the whole URL, where the server gave it; the other two are then for messages.
        query: values for the query.
        what: what is asked for, in words, for messages.
        actions: the rights in the repository that it needs: `pull`, `push`, `delete`.
        also: rights in other repositories: pairs of a repository and an action.
        headers: headers of the request.
        body: the body, or a function that returns it in pieces, once for each attempt.
        accept: the statuses that are results. Others are errors.
        by_digest: whether what it asks for is named by its digest, so that any server may give it.
        again: whether it may be made again after a failure.
    """

    method: Method
    what: str
    repository: str = ""
    path: str = ""
    url: str = ""
    query: tuple[tuple[str, str], ...] = ()
    actions: tuple[str, ...] = ("pull",)
    also: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    body: Body = None
    accept: frozenset[int] = frozenset({200})
    by_digest: bool = False
    again: bool = True

    def url_at(self, endpoint: Endpoint) -> str:
        """Return the URL of the request at an endpoint."""
        if self.url:
            return with_query(self.url, self.query)
        name = endpoint.repository(self.repository) if self.repository else ""
        below = "/".join(filter(None, (quoted(name), quoted(self.path))))
        given = {name for name, _ in self.query}
        own = (item for item in endpoint.query.items() if item[0] not in given)
        return with_query(f"{endpoint.url}/{below}", (*own, *self.query))

    def scopes_at(self, endpoint: Endpoint) -> frozenset[str]:
        """Return the rights that the request needs at an endpoint, as scopes of tokens with one action each."""
        own = ((self.repository, action) for action in self.actions) if self.repository else ()
        return frozenset(f"repository:{endpoint.repository(name)}:{action}" for name, action in (*own, *self.also))

    def new_body(self) -> bytes | Iterable[bytes] | None:
        """Return the body for one attempt."""
        return self.body() if callable(self.body) else self.body
