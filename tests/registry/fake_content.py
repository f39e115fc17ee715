"""What a fake registry has, what it can be told to do, and the words of its documents."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from tests.registry.http_server import Bytes

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


@dataclass
class Settings:
    """What the specification leaves to a registry. Tests change it at any time.

    Attributes:
        referrers: there is the referrers API; without it, it answers 404, and OCI-Subject is not sent.
        filters: referrers are filtered by their type, and OCI-Filters-Applied says so.
        page: the most tags or referrers in one answer.
        null_tags: a repository without tags answers with null instead of a list.
        absolute: Location has scheme and host.
        location_query: Location of an upload has a query already, which has to stay.
        single_state: only the newest Location of an upload is valid, as with docker-registry.
        resume: an upload whose connection was cut off can go on; otherwise it is lost, as with docker-registry.
        single_post: POST with a digest takes the whole blob.
        mount: blobs of other repositories are mounted.
        min_chunk: what OCI-Chunk-Min-Length asks for.
        redirect: blobs are at the storage server, under an address that is signed.
        signed_for: for how many seconds such an address is valid.
        strict_accept: a manifest whose type Accept does not name is not found, as with docker-registry.
        check_blobs: a manifest is refused if something that it names is missing.
        deletes: manifests, tags and blobs can be deleted.
    """

    referrers: bool = True
    filters: bool = True
    page: int = 1000
    null_tags: bool = False
    absolute: bool = True
    location_query: bool = True
    single_state: bool = True
    resume: bool = True
    single_post: bool = True
    mount: bool = True
    min_chunk: int = 0
    redirect: bool = False
    signed_for: float = 60
    strict_accept: bool = True
    check_blobs: bool = True
    deletes: bool = True


@dataclass
class Repository:
    """A repository: blobs, manifests with their types, and tags."""

    blobs: dict[str, Bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def digest_of(data: Bytes, algorithm: str = "sha256") -> str:
    """Return the digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    """Return the descriptor of some bytes."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}
