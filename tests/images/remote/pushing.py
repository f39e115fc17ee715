"""What the tests of pushing have in common: images in a store, and what a registry in this process was sent."""

from __future__ import annotations

import io
import json
from typing import Any

from layerstore_core.images import Images
from tests.images.archives import Files, ImageSpec, docker_archive, oci_manifest, tar_files
from tests.images.keep.layouts import named, write_index
from tests.registry.fake_registry import FakeRegistry

NAME = "docker.io/library/app:1"


def load_made(images: Images, *layers: bytes, name: str = "app:1") -> None:
    """Load an image that no registry has seen."""
    images.load(io.BytesIO(docker_archive(ImageSpec(layers, (name,)))))


def load_layout(images: Images, files: Files, *entries: dict[str, Any], **options: Any) -> None:
    images.load(io.BytesIO(tar_files(write_index(files, entries))), **options)


def load_image(images: Images, image: ImageSpec, name: str = NAME) -> str:
    """Load an image from a layout; return the digest of its manifest."""
    files: Files = {}
    entry = oci_manifest(files, image)
    load_layout(images, files, named(entry, name))
    return str(entry["digest"])


def tag_of(fake: FakeRegistry, name: str) -> str | None:
    """Return the digest that REPOSITORY:TAG has."""
    repository, _, tag = name.rpartition(":")
    return fake.repository(repository).tags.get(tag)


def manifest_at(fake: FakeRegistry, name: str) -> tuple[str, dict[str, Any]]:
    """Return the media type of a manifest, and the manifest."""
    digest = tag_of(fake, name)
    assert digest is not None
    media_type, data = fake.repository(name.rpartition(":")[0]).manifests[digest]
    return media_type, json.loads(data)


def blob_bytes(fake: FakeRegistry) -> int:
    """Return how many bytes of blobs came."""
    return fake.log.received("/blobs/")
