"""Foreign layers: blobs that a registry need not have, because the manifest names other places (`urls`).

Media types with `nondistributable` or `foreign` in them, and the field `urls` of descriptors: OCI image specification
1.1, `descriptor.md` and `layer.md`; Docker's image manifest, version 2, schema 2.

The manifest, and so its URLs, are not trusted. They are asked without credentials, over HTTP or HTTPS only, and what
they give is compared with the digest like any blob.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final
from urllib.parse import urlsplit

from layerstore_core.images.remote.receive.download import Blob, Body
from layerstore_core.log import logger
from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.errors import NotInRegistry, RegistryUnavailable
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.broken import ConnectionFailed
from layerstore_core.registry.http.connections import Connections
from layerstore_core.registry.http.urls import join, shown

#: At most so many places of one blob are tried, and redirects of one place followed.
_PLACES: Final = 5
_REDIRECTS: Final = 5
_REDIRECTED: Final = frozenset({301, 302, 303, 307, 308})
_TIMEOUT: Final = 30.0
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19}|\*)", re.ASCII)


class ForeignBody:
    """The bytes of a blob from a place that its manifest names; see `download.Body`."""

    def __init__(self, connections: Connections, answer: Answer, host: str, start: int, size: int | None) -> None:
        self._connections = connections
        self._answer = answer
        self._host = host
        self.start = start
        self.size = size

    def read(self, count: int, /) -> bytes:
        """Return at most `count` bytes; none at the end.

        Raises:
            RegistryUnavailable: the connection broke.
        """
        try:
            return self._answer.read(count)
        except ConnectionFailed as error:
            raise RegistryUnavailable(self._host, f"the transfer of a foreign layer broke: {error.reason}") from None

    def distrust(self) -> bool:
        """Return false: there is no other server for the place."""
        return False

    def close(self) -> None:
        """End the transfer."""
        self._answer.close()
        self._connections.close()


def open_blob(ask: Callable[[], Body], blob: Blob, start: int, end: int | None) -> Body:
    """Open a blob at the registry; if that lacks it, at the places that the manifest names.

    Args:
        ask: asks the registry.
        blob: the blob.
        start: the offset of the first byte.
        end: the offset after the last byte; `None` for all up to the blob's end.

    Raises:
        RegistryError: no place gives it. The error is the registry's.
    """
    try:
        return ask()
    except NotInRegistry as missing:
        for url in blob.urls[:_PLACES]:
            try:
                return _open(url, start, end)
            except (ConnectionFailed, ValueError) as error:
                reason = error.reason if isinstance(error, ConnectionFailed) else str(error)
                logger.warning("foreign layer {}: {} does not give it: {}", blob.digest, shown(url), reason)
        raise missing


def _open(url: str, start: int, end: int | None) -> ForeignBody:
    headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
    for _ in range(_REDIRECTS + 1):
        parts = urlsplit(join(url, url))
        connections = Connections(Endpoint(url=f"{parts.scheme}://{parts.netloc}", host=parts.netloc), _TIMEOUT)
        try:
            answer = connections.send("GET", url, headers, None)
            with ExitStack() as closing:
                closing.enter_context(answer)
                if answer.status not in _REDIRECTED:
                    body = _body(connections, answer, parts.netloc, start)
                    closing.pop_all()
                    return body
                url = join(url, answer.header("Location"))
        except BaseException:
            connections.close()
            raise
        connections.close()
    raise ValueError(f"it redirects more than {_REDIRECTS} times")


def _body(connections: Connections, answer: Answer, host: str, start: int) -> ForeignBody:
    if answer.status == 200:
        return ForeignBody(connections, answer, host, 0, answer.length)
    found = _CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
    if answer.status == 206 and found and int(found[1]) == start:
        return ForeignBody(connections, answer, host, start, None if found[2] == "*" else int(found[2]))
    raise ValueError(f"it answers with status {answer.status}")
