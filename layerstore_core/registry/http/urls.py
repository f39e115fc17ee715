"""URLs: joining, comparing their hosts, adding to their queries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlencode, urljoin, urlsplit, urlunsplit

#: The greatest length of a URL that a server may send us to.
_MAX_URL: Final = 16 << 10
#: How many characters of a URL stand in a message.
_SHOWN: Final = 300
#: A whole URL of HTTP, or a relative one. The standard library would take `http:a` for a relative one.
_LOCATION = re.compile(
    r"(?:(?:https?:)?//[!-.0-~][!-~]*|(?![A-Za-z][A-Za-z0-9+.-]*:|//)[!-~]+)", re.ASCII | re.IGNORECASE
)
_PORTS: Final = {"http": 80, "https": 443}


class BadURL(ValueError):
    """A URL that a server sent cannot be used. The message says why."""


def origin(url: str) -> tuple[str, str, int | None]:
    """Return the scheme, host and port of a URL. Two URLs with the same ones go to the same server.

    Raises:
        BadURL: it is not a URL.
    """
    try:
        parts = urlsplit(url)
        return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        raise BadURL(str(error)) from None


def join(base: str, location: str) -> str:
    """Return where a `Location` or a link leads, which may be relative.

    A server behind a proxy that ends TLS often names itself with `http`. That would lead out of TLS: a URL of the same
    host with `http` becomes one of the server that was asked.

    Args:
        base: the URL that was asked.
        location: what the server answered.

    Raises:
        BadURL: it is not a URL of HTTP, or it is too long.
    """
    if len(location) > _MAX_URL or not _LOCATION.fullmatch(location):
        raise BadURL("it is empty, too long, no URL of HTTP, or has characters that a URL cannot have")
    try:
        url = urljoin(base, location)
        parts, asked = urlsplit(url), urlsplit(base)
        scheme, host, port = origin(url)
    except ValueError as error:
        raise BadURL(str(error)) from None
    if scheme not in _PORTS or not host or "@" in parts.netloc:
        raise BadURL("it is not a URL of HTTP that can be asked")
    if scheme == "http" and asked.scheme == "https" and host == origin(base)[1] and port in {80, origin(base)[2]}:
        return urlunsplit(parts._replace(scheme="https", netloc=asked.netloc, fragment=""))
    return urlunsplit(parts._replace(fragment=""))


def is_encrypted(url: str) -> bool:
    """Return whether a URL is asked with TLS."""
    return url.lower().startswith("https:")


def with_query(url: str, values: Iterable[tuple[str, str]]) -> str:
    """Return a URL with more values in its query. What it has already stays as it is."""
    added = urlencode([*values], safe=":/,")
    return url if not added else f"{url}{'&' if urlsplit(url).query else '?'}{added}"


def quoted(part: str) -> str:
    """Return a part of a path, with slashes, as it stands in a URL."""
    return quote(part, safe="/:@")


def shown(url: str) -> str:
    """Return a URL for a message: without its query, which may be a signature that opens what it names."""
    text = url.partition("?")[0]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
