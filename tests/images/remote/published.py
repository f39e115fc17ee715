"""Images in a registry of the tests' own."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence

from tests import tars
from tests.images.archives import ImageSpec, sha256
from tests.registry.fake_registry import FakeRegistry


def noise(seed: int, size: int) -> bytes:
    """Return bytes that cannot be compressed."""
    return random.Random(seed).randbytes(size)


def layer(seed: int, size: int = 300_000) -> bytes:
    """Return the tar of a layer with one file."""
    return tars.tar(tars.entry(f"file{seed}".encode(), noise(seed, size)))


def spec(*layers: bytes, **extra: object) -> ImageSpec:
    """Return an image whose layers are compressed."""
    return ImageSpec(layers, packed=[gzip.compress(one, 1, mtime=0) for one in layers], extra=extra)


def publish(fake: FakeRegistry, image: ImageSpec, *tags: str, repository: str = "app") -> str:
    """Add an image to a registry; return the digest of its manifest."""
    return fake.add_image(repository, image.blobs, *tags, config=image.config)


def sent(fake: FakeRegistry, blobs: Sequence[bytes] = ()) -> int:
    """Return how many bytes of blobs were sent, or of these only."""
    return sum(fake.log.sent(f"/blobs/{sha256(blob)}") for blob in blobs) if blobs else fake.log.sent("/blobs/")
