"""Pushes that fail, are cut off, are killed, or meet each other: the tag is the old one, or the new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from layerstore_core import LayerStore
from layerstore_core.base.digests import DiffID
from layerstore_core.errors import LayerStoreError
from layerstore_core.images import Images
from layerstore_core.images.keep.compression import Compression
from layerstore_core.maintenance.check import check_store
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.records.blob_sources import BlobSource, BlobSources
from layerstore_core.registry import RegistryDenied, RegistryError, RegistryUnavailable
from layerstore_core.registry.http.retries import Pauses
from tests.conftest import OpenStore
from tests.images.archives import ImageSpec, sha256
from tests.images.keep.test_incoming import foreign_gzip
from tests.images.remote.pushing import blob_bytes, load_image, load_made, tag_of
from tests.registry.fake_registry import FakeRegistry
from tests.registry.faults import Rule
from tests.store.layers import BASE, MIDDLE, TOP, tar_of

#: A layer that gzip makes no smaller: its upload can be met in the middle.
LARGE = tar_of({"large": os.urandom(3 << 20)})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    wait = Pauses.wait
    monkeypatch.setattr(Pauses, "wait", lambda self, asked=None: wait(self, 0.0))


@pytest.fixture
def old(images: Images, fake_registry: FakeRegistry) -> str:
    """Push an older image to `app:1`, and load another one as `app:1`; return the digest of the older one."""
    load_made(images, TOP)
    digest = images.push("app:1", f"{fake_registry.host}/app:1").digest
    load_made(images, BASE, MIDDLE)
    return digest


@pytest.mark.parametrize(
    ("pattern", "fault", "error"),
    [
        ("POST", lambda rule: rule.error(405, "UNSUPPORTED"), RegistryError),
        ("POST", lambda rule: rule.error(403, "DENIED", "it is read-only"), RegistryDenied),
        ("POST", lambda rule: rule.error(413, "SIZE_INVALID"), RegistryError),
        ("(PUT|PATCH) .*/uploads/", lambda rule: rule.error(507, "TOOMANYREQUESTS", "quota"), RegistryError),
        ("(PUT|PATCH) .*/uploads/", lambda rule: rule.html(503), RegistryUnavailable),
        ("(PUT|PATCH) .*/uploads/", lambda rule: rule.error(404, "BLOB_UPLOAD_UNKNOWN"), RegistryError),
        ("(PUT|PATCH) .*/uploads/", lambda rule: rule.error(400, "DIGEST_INVALID"), RegistryError),
        ("PUT .*/manifests/", lambda rule: rule.error(403, "DENIED", "quota"), RegistryDenied),
        ("PUT .*/manifests/", lambda rule: rule.error(400, "MANIFEST_INVALID", "no"), RegistryError),
        ("PUT .*/manifests/", lambda rule: rule.status(500), RegistryUnavailable),
        ("HEAD", lambda rule: rule.status(500), RegistryUnavailable),
    ],
)
def test_a_registry_that_does_not_take_it_is_named_and_keeps_the_tag(
    images: Images,
    fake_registry: FakeRegistry,
    old: str,
    pattern: str,
    fault: Callable[[Rule], object],
    error: type[RegistryError],
) -> None:
    fault(fake_registry.faults.on(pattern))
    with pytest.raises(error) as raised:
        images.push("app:1", f"{fake_registry.host}/app:1")
    assert fake_registry.host in str(raised.value)
    assert tag_of(fake_registry, "app:1") == old
    fake_registry.faults.clear()
    assert images.push("app:1", f"{fake_registry.host}/app:1").digest == tag_of(fake_registry, "app:1") != old


@pytest.mark.parametrize(
    "fault",
    [
        lambda rule: rule.hang_up(),
        lambda rule: rule.error(404, "BLOB_UPLOAD_UNKNOWN"),
        lambda rule: rule.status(502),
        lambda rule: rule.busy(429, 0),
    ],
)
def test_an_upload_that_breaks_is_made_again(
    images: Images, fake_registry: FakeRegistry, fault: Callable[[Rule], object]
) -> None:
    load_made(images, LARGE, TOP)
    rule = fake_registry.faults.on("(PUT|PATCH) .*/uploads/", times=1)
    fault(rule)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert (pushed.digest, rule.hits) == (tag_of(fake_registry, "app:1"), 1)


def test_who_may_not_write_learns_it_before_anything_is_compressed(
    images: Images, fake_registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_made(images, BASE)
    monkeypatch.setattr(Compression, "compress", None)
    fake_registry.faults.on("POST").error(401, "UNAUTHORIZED")
    with pytest.raises(RegistryDenied):
        images.push("app:1", f"{fake_registry.host}/app:1")


def test_what_had_arrived_is_not_sent_again(images: Images, fake_registry: FakeRegistry, old: str) -> None:
    rule = fake_registry.faults.on("PUT .*/manifests/").status(500)
    with pytest.raises(RegistryUnavailable):
        images.push("app:1", f"{fake_registry.host}/app:1")
    assert rule.hits
    fake_registry.faults.clear()
    fake_registry.log.clear()
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert ({blob.state for blob in pushed.blobs}, blob_bytes(fake_registry)) == ({"exists"}, 0)


def test_the_first_error_ends_the_other_uploads(images: Images, fake_registry: FakeRegistry) -> None:
    load_made(images, *(tar_of({f"{number}": os.urandom(1 << 20)}) for number in range(6)))
    fake_registry.faults.on("POST", skip=1).error(403, "DENIED")
    with pytest.raises(RegistryDenied):
        images.push("app:1", f"{fake_registry.host}/app:1")
    for thread in threading.enumerate():
        if thread.name.startswith("layerstore-layer"):
            thread.join(25)
            assert not thread.is_alive()
    assert fake_registry.log.count("POST") <= 6


_PUSH = """
import sys
from layerstore_core import LayerStore
from layerstore_core.images import Images
with LayerStore.open(root=sys.argv[1], driver="vfs", durability="none") as store:
    print(Images(store).push("app:1", sys.argv[2]).digest)
"""


def pushing(root: Path, target: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", _PUSH, str(root), target]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("pattern", "skip"), [("POST", 0), ("PUT .*/uploads/", 0), ("PUT .*/uploads/", 2), ("PUT .*/manifests/", 0)]
)
def test_a_push_that_is_killed_leaves_the_old_image_and_the_next_one_goes_on(
    images: Images, store: LayerStore, fake_registry: FakeRegistry, old: str, pattern: str, skip: int
) -> None:
    load_made(images, LARGE, BASE, MIDDLE)
    held = fake_registry.faults.on(pattern, skip=skip).hold()
    with pushing(store.root, f"{fake_registry.host}/app:1") as process:
        assert held.reached.wait(60)
        process.send_signal(signal.SIGKILL)
    held.release()
    # The fake registry has handled the request by then: only the answer did not arrive.
    if "manifests" not in pattern:
        assert tag_of(fake_registry, "app:1") == old
    fake_registry.faults.clear()
    arrived = set(fake_registry.repository("app").blobs)
    fake_registry.log.clear()
    collect_garbage(store)
    assert check_store(store) == []
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert pushed.digest == tag_of(fake_registry, "app:1")
    assert {blob.digest for blob in pushed.blobs if blob.state == "exists"} >= {
        blob.digest for blob in pushed.blobs if blob.digest in arrived
    }
    # What the killed process had sent at once with the request may have arrived since then.
    assert blob_bytes(fake_registry) == sum(blob.size for blob in pushed.blobs if blob.state != "exists")


def test_an_interrupted_push_does_not_wait_for_a_silent_registry(
    images: Images, store: LayerStore, fake_registry: FakeRegistry, old: str
) -> None:
    rule = fake_registry.faults.on("PUT .*/uploads/").silent()
    words = ["-m", "layerstore_core", "--root", str(store.root), "--driver", "vfs", "push"]
    with subprocess.Popen(
        [sys.executable, *words, "app:1", f"{fake_registry.host}/app:1"], stderr=subprocess.PIPE
    ) as process:
        while not rule.hits:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        # Without giving up what waits for the registry, this takes minutes.
        assert process.wait(25) == 130
        assert process.stderr is not None
        assert b"interrupted" in process.stderr.read()
    assert tag_of(fake_registry, "app:1") == old


def test_an_upload_that_is_not_needed_is_given_up(
    images: Images, store: LayerStore, fake_registry: FakeRegistry
) -> None:
    # The blob is to be mounted from a repository that lost it, and cannot be made again.
    blob = foreign_gzip(BASE)
    load_image(images, ImageSpec((BASE,), packed=(blob,)))
    with store.context.changing_images():
        sources = BlobSources(store.context.image_db.path)
        sources.add(DiffID.of(BASE), [BlobSource(sha256(blob), f"{fake_registry.host}/lost/{n}") for n in range(5)])
    images.push("app:1", f"{fake_registry.host}/app:1")
    # Three of them are tried, and the uploads of two used for layer and config.
    assert fake_registry.log.count("POST") == 3 + 2
    assert fake_registry.log.count("DELETE .*/uploads/") == 3


def test_two_pushes_at_once(
    images: Images, open_store: OpenStore, store: LayerStore, fake_registry: FakeRegistry
) -> None:
    load_made(images, LARGE, BASE)
    load_made(images, LARGE, TOP, name="other:1")
    with ThreadPoolExecutor(3) as pool:
        running = [
            pool.submit(Images(open_store()).push, name, f"{fake_registry.host}/app:{tag}")
            for name, tag in (("app:1", "1"), ("app:1", "1"), ("other:1", "2"))
        ]
        found = [one.result().digest for one in running]
    assert found[0] == found[1] == tag_of(fake_registry, "app:1")
    assert found[2] == tag_of(fake_registry, "app:2") != found[0]
    assert images.push("app:1", f"{fake_registry.host}/app:3").sent == 0


def test_an_image_that_is_removed_meanwhile_leaves_nothing(
    images: Images, store: LayerStore, fake_registry: FakeRegistry, tmp_path: Path
) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(BASE)
    images.append(None, [layer], name="made:1")
    fake_registry.faults.on("PUT .*/manifests/").then(lambda: images.remove("made:1"))
    images.push("made:1", f"{fake_registry.host}/made:1")
    collect_garbage(store)
    assert check_store(store) == []
    assert images.all() == []
    with pytest.raises(LayerStoreError):
        images.push("made:1", f"{fake_registry.host}/made:1")
