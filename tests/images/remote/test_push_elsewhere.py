"""Images that go from one registry to another: layers that nobody can compress again are fetched once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from layerstore_core.images import Images
from layerstore_core.images.remote.push import image as module
from layerstore_core.registry.http.retries import Pauses
from tests.images.archives import ImageSpec
from tests.images.keep.test_incoming import foreign_gzip
from tests.images.remote.pushing import tag_of
from tests.registry.fake_registry import FakeRegistry
from tests.registry.faults import Rule
from tests.store.layers import BASE, TOP

IMAGE = ImageSpec((BASE, TOP), packed=(foreign_gzip(BASE), foreign_gzip(TOP)))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = Pauses.wait
    monkeypatch.setattr(Pauses, "wait", lambda self, asked=None: wait(self, 0.0))


@pytest.fixture
def source() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def pulled(images: Images, source: FakeRegistry) -> str:
    """Pull an image; return its digest."""
    source.add_image("team/app", IMAGE.packed, "1", config=IMAGE.config)
    return images.pull(f"{source.host}/team/app:1").digest


def test_the_digest_stays(images: Images, source: FakeRegistry, fake_registry: FakeRegistry, pulled: str) -> None:
    source.log.clear()
    pushed = images.push(f"{source.host}/team/app:1", f"{fake_registry.host}/app:1")
    assert (pushed.digest, pushed.manifests[0].as_loaded) == (pulled, True)
    assert source.log.sent("GET .*/blobs/") >= sum(map(len, IMAGE.packed))
    source.log.clear()
    assert images.push(f"{source.host}/team/app:1", f"{fake_registry.host}/other:1").digest == pulled
    assert source.log.count() == 0  # mounted


def test_a_registry_without_mounts_gives_its_own_blobs(images: Images, source: FakeRegistry, pulled: str) -> None:
    source.settings.mount = False
    pushed = images.push(f"{source.host}/team/app:1", f"{source.host}/other:1")
    assert (pushed.digest, [blob.state for blob in pushed.blobs]) == (pulled, ["uploaded"] * 3)


@pytest.mark.parametrize(
    "fault",
    [
        lambda rule: rule.flip_byte(),
        lambda rule: rule.status(500),
        lambda rule: rule.error(404, "BLOB_UNKNOWN"),
        lambda rule: rule.error(403, "DENIED"),
        lambda rule: rule.hang_up(),
        lambda rule: rule.long(10),
    ],
)
def test_a_source_that_does_not_give_it_is_no_error(
    images: Images,
    source: FakeRegistry,
    fake_registry: FakeRegistry,
    pulled: str,
    fault: Callable[[Rule], object],
    said: list[Any],
) -> None:
    fault(source.faults.on("GET .*/blobs/"))
    pushed = images.push(f"{source.host}/team/app:1", f"{fake_registry.host}/app:1")
    assert pushed.digest == tag_of(fake_registry, "app:1") != pulled


def test_a_source_that_is_gone_is_no_error(
    images: Images, source: FakeRegistry, fake_registry: FakeRegistry, pulled: str
) -> None:
    source.close()
    pushed = images.push(f"{source.host}/team/app:1", f"{fake_registry.host}/app:1")
    assert pushed.digest == tag_of(fake_registry, "app:1") != pulled


def test_a_source_that_is_gone_is_asked_once(
    images: Images,
    source: FakeRegistry,
    fake_registry: FakeRegistry,
    pulled: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_THREADS", 1)
    source.faults.on("GET .*/blobs/").status(503)
    source.log.clear()
    images.push(f"{source.host}/team/app:1", f"{fake_registry.host}/app:1")
    assert len({request.path for request in source.log.all()}) == 1
