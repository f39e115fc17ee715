"""Manifests as registries give them: their media types, sizes and digests.

The media types are those of the OCI image specification and of Docker's image manifest, version 2, schema 2.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+"
#: What is asked for, in the header `Accept`. Without the last two, a manifest of schema 1 would seem to be missing.
ACCEPT: Final = ", ".join(
    (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, f"{_SCHEMA_1}prettyjws", f"{_SCHEMA_1}json")
)
#: The greatest size of a manifest or an index in bytes. Registries take 4 MiB by convention.
MAX_MANIFEST: Final = 8 << 20

DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
_MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
#: Types that servers give to what they do not know.
_SAYS_NOTHING: Final = frozenset({"", "application/json", "text/plain", "application/octet-stream"})


def digest_of(data: bytes, like: str = "sha256") -> str:
    """Return the digest of bytes, by the algorithm of another digest."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def media_type_of(data: bytes, content_type: str) -> str:
    """Return the media type of a manifest.

    Args:
        data: the manifest.
        content_type: what the registry says; empty if it does not say.

    Raises:
        ValueError: it is no manifest, its type contradicts itself, or it is of schema 1. The message says which.
    """
    told = content_type.partition(";")[0].strip().lower()
    if told.startswith(_SCHEMA_1):
        raise ValueError(_of_schema_1())
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    inside = _type_inside(document)
    if told in _SAYS_NOTHING:
        told = inside
    elif inside and told != inside:
        raise ValueError(f"it calls itself {inside[:100]!r}, and the registry calls it {told[:100]!r}")
    is_index, is_manifest = "manifests" in document, "layers" in document or "config" in document
    if not told:
        told = OCI_INDEX if is_index else OCI_MANIFEST if is_manifest else ""
    if not told:
        raise ValueError("neither the registry nor it itself says what it is")
    if (told in _INDEXES and is_manifest) or (told in _MANIFESTS and is_index):
        raise ValueError(f"it is called {told!r}, and has the parts of another kind of document")
    return told


def _type_inside(document: dict[str, Any]) -> str:
    """Return the type that the manifest itself states; empty for none."""
    if document.get("schemaVersion") == 1 or "fsLayers" in document:
        raise ValueError(_of_schema_1())
    if "manifests" in document and ("layers" in document or "config" in document):
        raise ValueError("it has both manifests and layers, so that readers would not agree on what it is")
    inside = document.get("mediaType")
    if inside is not None and not isinstance(inside, str):
        raise ValueError("its media type is not a string")
    return inside or ""


def _of_schema_1() -> str:
    return (
        "it is a manifest of schema 1, which Docker gave up in 2017: it has no config, and only digests of compressed"
        " layers; push the image again with a current program"
    )
