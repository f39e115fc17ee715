"""Lists that a registry gives in pages: tags, and referrers of a manifest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from layerstore_core.registry.errors import InvalidAnswer, NotInRegistry, RegistryError
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.call import Call
from layerstore_core.registry.http.session import Session
from layerstore_core.registry.http.urls import BadURL, join, origin
from layerstore_core.registry.manifests import OCI_INDEX
from layerstore_core.registry.results import Manifest

_MAX_PAGE: Final = 8 << 20
#: How many pages of a list are followed: a server could send links for ever.
_MAX_PAGES: Final = 10_000
#: How many bytes all pages may have: tags pass by, descriptors are collected, and take some ten times the memory.
_MAX_TAGS: Final = 256 << 20
_MAX_REFERRERS: Final = 16 << 20
#: What registries answer that do not list referrers. The specification has 404.
_NO_SUCH_CALL: Final = frozenset({400, 404, 405, 501})
_MAX_VALUES: Final = 50
#: How many tags are asked for at once. Servers may send fewer.
_PAGE: Final = 1000
_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[\w!#$&+.^`|~*-]+\s*(?:=\s*(?:"[^"]*"|[^\s";,]+))?)*)', re.ASCII)
_REL_NEXT = re.compile(r';\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next\s*(?:;|$))', re.ASCII | re.IGNORECASE)


#: Attributes of a call that are other for its next page.
_Next = dict[str, Any]


def list_tags(session: Session, repository: str) -> Iterator[str]:
    """Return the tags of a repository, as they are read page by page."""
    call = Call(
        method="GET",
        repository=repository,
        path="tags/list",
        query=(("n", str(_PAGE)),),
        what=f"list the tags of {repository}",
    )
    for page in _pages(session, call, _MAX_TAGS):
        tags = page.get("tags")
        if tags is None:
            continue
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise InvalidAnswer(session.host, f"cannot {call.what}: it sends no list of tags")
        yield from tags


def list_referrers(
    session: Session,
    manifest: Callable[[str, str], Manifest],
    repository: str,
    digest: str,
    artifact_type: str | None,
) -> list[dict[str, Any]]:
    """Return the descriptors of the referrers of a manifest, by the registry or by the fallback tag.

    Args:
        session: the registry.
        manifest: reads a manifest by repository and tag.
        repository: the repository.
        digest: the digest of the manifest.
        artifact_type: the only type to return; `None` for all.
    """
    call = Call(
        method="GET",
        repository=repository,
        path=f"referrers/{digest}",
        query=(("artifactType", artifact_type),) if artifact_type else (),
        what=f"list the referrers of {repository}@{digest}",
        headers={"Accept": OCI_INDEX},
        by_digest=True,
    )
    try:
        found = [entry for page in _pages(session, call, _MAX_REFERRERS) for entry in _descriptors(session, call, page)]
    except RegistryError as error:
        if error.status not in _NO_SUCH_CALL:
            raise
        try:
            index = manifest(repository, fallback_tag(digest))
        except NotInRegistry:
            return []
        found = _descriptors(session, call, json.loads(index.data))
    return [entry for entry in found if artifact_type in (None, entry.get("artifactType"))]


def fallback_tag(digest: str) -> str:
    """Return the tag of the index that has a manifest's referrers, where a registry does not list them itself."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


def _descriptors(session: Session, call: Call, page: dict[str, Any]) -> list[dict[str, Any]]:
    found = page.get("manifests")
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise InvalidAnswer(session.host, f"cannot {call.what}: it sends no index")
    return found


def _pages(session: Session, call: Call, limit: int) -> Iterator[dict[str, Any]]:
    seen: set[bytes] = set()
    total = 0
    for _ in range(_MAX_PAGES):
        page, size, after = session.read(call, partial(_page, session, call))
        total += size
        if total > limit:
            raise InvalidAnswer(session.host, f"cannot {call.what}: its pages have more than {limit >> 20} MiB")
        yield page
        if after is None:
            return
        if (key := hashlib.sha256(repr(after).encode()).digest()) in seen:  # URLs may be long
            raise InvalidAnswer(session.host, f"cannot {call.what}: its pages lead in a circle")
        seen.add(key)
        call = replace(call, **after)
    raise InvalidAnswer(session.host, f"cannot {call.what}: it sends more than {_MAX_PAGES} pages")


def _page(session: Session, call: Call, answer: Answer) -> tuple[dict[str, Any], int, _Next | None]:
    """Return a page, its size in bytes, and how the call for the next one differs."""
    with answer:
        data = answer.whole(_MAX_PAGE)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InvalidAnswer(session.host, f"cannot {call.what}: it does not send a JSON object")
    for link, parameters in _LINK.findall(answer.header("Link")[:65536]):
        if _REL_NEXT.search(parameters):
            try:
                after = join(answer.url, link)
                if origin(after) != origin(answer.url):
                    raise BadURL("it is on another host")
            except BadURL as error:
                raise InvalidAnswer(
                    session.host, f"cannot {call.what}: the link to its next page is wrong: {error}"
                ) from None
            return document, len(data), _next_call(answer.url, after)
    return document, len(data), None


def _next_call(url: str, after: str) -> _Next:
    """Return how the call for the next page differs.

    Where only the query does, another server may give the rest if this one fails.
    """
    asked, wanted = urlsplit(url), urlsplit(after)
    if asked.path == wanted.path and wanted.query.count("&") < _MAX_VALUES:
        return {"query": tuple(parse_qsl(wanted.query, keep_blank_values=True))}
    return {"url": after, "query": ()}
