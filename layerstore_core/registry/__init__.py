"""A client of OCI registries: manifests, blobs, tags and referrers, without a store.

The protocol is the OCI distribution specification, and what registries of Docker do besides.

- `client` has the class `Registry`, which programs use; `results` and `errors` have what it returns and raises.
- `blobs`, `upload`, `lists` and `manifests` are its parts.
- `http` sends requests: connections, redirects, authentication, and trying again.
- `hosts` says where requests go, and `endpoint` is one such place; `files` reads what other programs say of it.
- `credentials` finds names and passwords; `login` reads and writes the files that have them.

Names are loaded when they are first used: other commands do not wait for a client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerstore_core.registry.blobs import BlobResponse
    from layerstore_core.registry.client import Registry
    from layerstore_core.registry.credentials import Credentials, credentials_for
    from layerstore_core.registry.endpoint import Endpoint
    from layerstore_core.registry.errors import (
        InvalidAnswer,
        NotInRegistry,
        RegistryDenied,
        RegistryError,
        RegistryUnavailable,
    )
    from layerstore_core.registry.hosts import endpoints_of
    from layerstore_core.registry.results import Manifest, ManifestInfo, PutManifest, Upload

_HOMES = {
    "BlobResponse": "blobs",
    "Credentials": "credentials",
    "Endpoint": "endpoint",
    "InvalidAnswer": "errors",
    "Manifest": "results",
    "ManifestInfo": "results",
    "NotInRegistry": "errors",
    "PutManifest": "results",
    "Registry": "client",
    "RegistryDenied": "errors",
    "RegistryError": "errors",
    "RegistryUnavailable": "errors",
    "Upload": "results",
    "credentials_for": "credentials",
    "endpoints_of": "hosts",
}

__all__ = [
    "BlobResponse",
    "Credentials",
    "Endpoint",
    "InvalidAnswer",
    "Manifest",
    "ManifestInfo",
    "NotInRegistry",
    "PutManifest",
    "Registry",
    "RegistryDenied",
    "RegistryError",
    "RegistryUnavailable",
    "Upload",
    "credentials_for",
    "endpoints_of",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
