"""What `info` says of registries: where requests go, and which files, settings and credentials are used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from layerstore_core.cli.output import printable

if TYPE_CHECKING:
    from layerstore_core.config.registries import HostSettings
    from layerstore_core.registry.endpoint import Endpoint


def registry_files() -> list[str]:
    """Return the files and directories of other programs that exist and are for registries; none of them is read."""
    from layerstore_core.registry.credentials import credential_files
    from layerstore_core.registry.hosts import files_in_force

    return [str(path) for path in (*files_in_force(), *(path for path in credential_files() if os.path.exists(path)))]


def registry_document(name: str, settings: Mapping[str, HostSettings]) -> dict[str, Any]:
    """Return what applies to a registry as a JSON object.

    Args:
        name: the registry, and maybe a repository after it.
        settings: our own settings of registries.

    Raises:
        ConfigError: a file that may say something of it is damaged.
    """
    from layerstore_core.registry.hosts import canonical_host, endpoints_of

    host, _, repository = name.partition("/")
    endpoints = endpoints_of(host, settings, repository)
    return {
        "registry": canonical_host(host),
        "repository": repository,
        "endpoints": [_endpoint_document(one, repository) for one in endpoints],
        "registry_files": registry_files(),
    }


def registry_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines for the result of `registry_document`."""
    yield f"Registry:   {printable(document['registry'])}"
    if document["repository"]:
        yield f"Repository: {printable(document['repository'])}"
    yield "Asked in this order:"
    for number, one in enumerate(document["endpoints"], 1):
        yield f"  {number}. {printable(one['url'])}  ({', '.join(_properties(one))})"
        yield f"     from:        {', '.join(map(printable, one['applied']))}"
        if one["username"] is not None:
            user = one["username"] or "an identity token"
            yield f"     credentials: {printable(user)}, from {printable(one['credentials_from'])}"
    yield from file_lines(document["registry_files"])


def file_lines(files: list[str]) -> Iterator[str]:
    """Yield the lines for the result of `registry_files`."""
    if files:
        yield "Files for registries:"
        yield from (f"  {printable(path)}" for path in files)


def _endpoint_document(endpoint: Endpoint, repository: str) -> dict[str, Any]:
    from layerstore_core.registry.credentials import credentials_for
    from layerstore_core.registry.proxies import proxy_for, without_password

    name = endpoint.repository(repository) if repository else ""
    found = credentials_for(endpoint.credentials_key, name)
    proxy = proxy_for(endpoint.url)
    return {
        "url": f"{endpoint.url}/{name}".rstrip("/"),
        "mirror": endpoint.mirror,
        "tags": endpoint.tags,
        "digests": endpoint.digests,
        "verify": endpoint.verify and endpoint.url.startswith("https:"),
        "ca": [str(path) for path in endpoint.ca],
        "client_cert": str(endpoint.client_cert) if endpoint.client_cert else None,
        "client_key": str(endpoint.client_key) if endpoint.client_key else None,
        "proxy": without_password(proxy) if proxy else None,
        "applied": list(endpoint.applied),
        "username": found.username if found else None,
        "credentials_from": found.source if found else None,
    }


def _properties(one: Mapping[str, Any]) -> Iterator[str]:
    yield "mirror" if one["mirror"] else "registry"
    if not one["digests"]:
        yield "only for tags" if one["tags"] else "only for writing"
    elif not one["tags"]:
        yield "only for digests"
    if one["url"].startswith("http:"):
        yield "without TLS"
    elif not one["verify"]:
        yield "certificate not verified"
    if one["ca"]:
        yield f"signed by {', '.join(map(printable, one['ca']))}"
    if one["client_cert"]:
        yield f"shown {printable(one['client_cert'])}"
    if one["proxy"]:
        yield f"through {printable(one['proxy'])}"
