"""Pulling images: what is asked for, what is kept, and that nothing is received twice."""

from __future__ import annotations

import errno
import gzip
import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from layerstore_core import LayerStore, ReadOnlyStore
from layerstore_core.base.digests import DiffID
from layerstore_core.config.registries import HostSettings
from layerstore_core.errors import ImageDoesNotExist, InvalidImage, InvalidReference
from layerstore_core.images import Images
from layerstore_core.images.keep import compressed
from layerstore_core.images.keep.blobs import KeptBlobs, spool
from layerstore_core.images.remote.events import BlobEvent
from layerstore_core.images.remote.receive.leftovers import downloads_directory
from layerstore_core.images.remote.receive.partial_file import PartialFile, read_table
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.records.blob_sources import BlobSource, BlobSources
from layerstore_core.registry import InvalidAnswer, NotInRegistry, RegistryUnavailable
from tests.conftest import OpenStore
from tests.images.archives import ImageSpec, descriptor, sha256
from tests.images.remote.published import layer, publish, sent, spec
from tests.registry.fake_content import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from tests.registry.fake_registry import FakeRegistry

APP = spec(layer(1), layer(2), layer(3))


def partial_files(store: LayerStore) -> list[Path]:
    return [path for path in downloads_directory(store.root).rglob("*") if path.is_file()]


def names_in(store: LayerStore, chain: str) -> list[str]:
    with store.get(chain) as top:
        return sorted(path.name for path in (store.root / "vfs" / "dir" / top.cache_id).iterdir())


def add_index(fake: FakeRegistry, repository: str, *images: ImageSpec, tag: str) -> str:
    """Add an index with the images; return its digest."""
    entries = []
    for image in images:
        digest = publish(fake, image, repository=repository)
        document = json.loads(image.config)
        platform = {"os": document["os"], "architecture": document["architecture"]}
        data = fake.repository(repository).manifests[digest][1]
        entries.append({**descriptor(data, OCI_MANIFEST), "platform": platform})
    return fake.add_manifest(
        repository, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, OCI_INDEX, tag
    )


def test_a_pulled_image_is_there_with_its_name_and_its_manifest(
    images: Images, store: LayerStore, fake: FakeRegistry
) -> None:
    digest = publish(fake, APP, "1")
    pulled = images.pull(f"{fake.host}/app:1")
    (image,) = pulled
    assert (image.image_id, image.names) == (APP.image_id, (f"{fake.host}/app:1",))
    assert (pulled.digest, pulled.name) == (digest, f"{fake.host}/app:1")
    assert pulled.fetched == sum(map(len, APP.blobs))
    assert (pulled.downloaded, pulled.present) == (tuple(map(sha256, APP.blobs)), ())
    assert store.context.kept.read(digest) == fake.repository("app").manifests[digest][1]
    assert names_in(store, image.chain_id or "") == ["file1", "file2", "file3"]
    assert partial_files(store) == []


def test_nothing_is_received_of_an_image_that_is_here(images: Images, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    images.pull(f"{fake.host}/app:1")
    fake.log.clear()
    again = images.pull(f"{fake.host}/app:1")
    assert (again.fetched, again.downloaded, len(again.present)) == (0, (), 3)
    assert [str(request) for request in fake.log.all()] == ["HEAD /v2/app/manifests/1 -> 200"]


def test_a_pull_that_changes_nothing_writes_nothing(
    images: Images, store: LayerStore, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(fake, APP, "1")
    name = f"{fake.host}/app:1"
    first = images.pull(name)
    with monkeypatch.context() as patched:
        patched.setattr("layerstore_core.images.remote.pull.load", lambda *_: pytest.fail("it is loaded"))
        again = images.pull(name)
    assert (list(again), again.digest, again.referrers) == (list(first), first.digest, ())
    images.tag(name, "other:1")
    images.remove(name)
    assert images.pull(name)[0].names == (name,)
    (kept,) = [path for path in (store.context.kept.path / "sha256").iterdir() if path.name == first.digest[7:]]
    for damage in (kept.unlink, lambda: kept.write_bytes(b"{}")):
        damage()
        images.pull(name)
        assert store.context.kept.read(first.digest)


def test_a_name_for_all_platforms_is_for_one_after_a_pull_of_one(images: Images, fake: FakeRegistry) -> None:
    ours, other = spec(layer(1), architecture="amd64"), spec(layer(2), architecture="arm64")
    add_index(fake, "multi", ours, other, tag="1")
    name = f"{fake.host}/multi:1"
    assert len(images.pull(name, all_platforms=True)) == 2
    assert len(images.pull(name)) == 1
    with pytest.raises(ImageDoesNotExist):
        images.get(name, platform="linux/arm64")


def test_a_digest_that_is_here_is_not_asked_for(images: Images, fake: FakeRegistry) -> None:
    digest = publish(fake, APP, "1")
    images.pull(f"{fake.host}/app:1")
    fake.log.clear()
    name = f"{fake.host}/app@{digest}"
    assert images.pull(name)[0].names == (name,)
    assert fake.log.count() == 0
    assert images.get(name).image_id == APP.image_id


def test_only_the_layer_that_is_missing_is_received(images: Images, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    images.pull(f"{fake.host}/app:1")
    more = spec(*APP.layers, layer(4, 1000))
    publish(fake, more, "2")
    fake.log.clear()
    pulled = images.pull(f"{fake.host}/app:2")
    assert pulled.fetched == len(more.blobs[3]) == sent(fake) - len(more.config)
    assert pulled.downloaded == (sha256(more.blobs[3]),)


def test_a_layer_that_is_here_with_other_parents_is_not_received(
    images: Images, store: LayerStore, fake: FakeRegistry
) -> None:
    publish(fake, APP, "1")
    images.pull(f"{fake.host}/app:1")
    turned = spec(APP.layers[2], APP.layers[0], layer(5))
    publish(fake, turned, "2")
    pulled = images.pull(f"{fake.host}/app:2")
    assert pulled.fetched == len(turned.blobs[2])
    assert names_in(store, pulled[0].chain_id or "") == ["file1", "file3", "file5"]


def test_a_damaged_layer_that_is_here_is_received(images: Images, store: LayerStore, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    image = images.pull(f"{fake.host}/app:1")[0]
    with store.get(image.chain_ids[2]) as third:
        (store.root / "vfs" / "dir" / third.cache_id / "file3").write_bytes(b"x")
    turned = spec(APP.layers[2])
    publish(fake, turned, "2")
    assert images.pull(f"{fake.host}/app:2").fetched == len(turned.blobs[0])


def test_nothing_of_other_platforms_is_asked_for(images: Images, fake: FakeRegistry) -> None:
    ours, other = spec(layer(1), architecture="amd64"), spec(layer(2), architecture="arm64")
    digest = add_index(fake, "multi", other, ours, tag="1")
    pulled = images.pull(f"{fake.host}/multi:1", platform="linux/amd64")
    assert (pulled.digest, [image.image_id for image in pulled]) == (digest, [ours.image_id])
    assert pulled.skipped == ()
    assert fake.log.count("/manifests/") == 2
    assert fake.log.count("/blobs/") == 2
    assert sent(fake, other.blobs) == 0


def test_all_platforms(images: Images, fake: FakeRegistry) -> None:
    ours, other = spec(layer(1), architecture="amd64"), spec(layer(2), architecture="arm64")
    add_index(fake, "multi", other, ours, tag="1")
    pulled = images.pull(f"{fake.host}/multi:1", all_platforms=True, platform="linux/arm64", name="mine:1")
    assert {image.image_id for image in pulled} == {ours.image_id, other.image_id}
    assert {image.names for image in pulled} == {("mine:1",)}
    assert images.get("mine:1").image_id == other.image_id


def test_a_platform_that_there_is_not(images: Images, fake: FakeRegistry) -> None:
    add_index(fake, "multi", spec(layer(1), architecture="s390x"), spec(layer(2), architecture="arm64"), tag="1")
    with pytest.raises(InvalidImage, match=r"multi:1: there is no image for linux/riscv64; there are: linux/s390x, l"):
        images.pull(f"{fake.host}/multi:1", platform="linux/riscv64")
    assert fake.log.count("/blobs/") == 0


@pytest.mark.parametrize("what", ["config", "layer", "size"])
def test_a_mirror_with_wrong_bytes(open_store: OpenStore, fake: FakeRegistry, what: str) -> None:
    with FakeRegistry() as mirror:
        for server in (fake, mirror):
            publish(server, APP, "1")
        wrong = sha256(APP.config if what == "config" else APP.blobs[1])
        if what == "size":
            mirror.repository("app").blobs[wrong] = b"short"
        else:
            mirror.faults.on(wrong).flip_byte()
        images = Images(open_store(registries={fake.host: HostSettings(mirrors=(mirror.host,))}))
        assert images.pull(f"{fake.host}/app:1")[0].image_id == APP.image_id
        assert mirror.log.count(wrong) == 1


def test_an_image_for_another_platform_only(images: Images, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    with pytest.raises(InvalidImage, match=r"^[0-9.:]+/app:1: the image is for linux/amd64, not linux/riscv64"):
        images.pull(f"{fake.host}/app:1", platform="linux/riscv64")


def test_attestations_come_with_all_platforms_only(images: Images, fake: FakeRegistry) -> None:
    image = spec(layer(1), architecture="amd64")
    digest = publish(fake, image, repository="multi")
    statement = b'{"predicateType": "https://slsa.dev/provenance/v0.2"}'
    attested = fake.add_image("multi", [statement], config={"os": "unknown"}, layer_type="application/vnd.in-toto+json")
    manifests = fake.repository("multi").manifests
    entries = [
        {**descriptor(manifests[digest][1], OCI_MANIFEST), "platform": {"os": "linux", "architecture": "amd64"}},
        {
            **descriptor(manifests[attested][1], OCI_MANIFEST),
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": digest,
            },
        },
    ]
    fake.add_manifest("multi", {"schemaVersion": 2, "manifests": entries}, OCI_INDEX, "1")
    assert images.pull(f"{fake.host}/multi:1").referrers == ()
    assert fake.log.count(f"/manifests/{attested}") == 0
    (referrer,) = images.pull(f"{fake.host}/multi:1", all_platforms=True).referrers
    assert (referrer.digest, referrer.subject) == (attested, digest)


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_damaged_layer_is_received_again_once(
    images: Images, store: LayerStore, fake: FakeRegistry, size: int
) -> None:
    publish(fake, APP, "1")
    fake.faults.on(f"GET .*/blobs/{sha256(APP.blobs[1])}", times=1).flip_byte(at=size)
    pulled = images.pull(f"{fake.host}/app:1")
    assert pulled[0].image_id == APP.image_id
    assert fake.log.count(f"GET .*/blobs/{sha256(APP.blobs[1])}") == 2
    assert fake.log.count(f"GET .*/blobs/{sha256(APP.blobs[0])}") == 1
    assert partial_files(store) == []


def test_a_layer_whose_start_is_damaged_is_received_again_while_the_rest_arrives(
    images: Images, store: LayerStore, fake: FakeRegistry
) -> None:
    image = spec(layer(1, 2_000_000))
    publish(fake, image, "1")
    blob = f"GET .*/blobs/{sha256(image.blobs[0])}"
    fake.faults.on(blob, times=1).flip_byte(at=0).slow(100_000, 0.05)
    assert images.pull(f"{fake.host}/app:1")[0].image_id == image.image_id
    first, second = fake.log.all(blob)
    assert first.sent < len(image.blobs[0])
    assert (second.sent, second.headers.get("Range")) == (len(image.blobs[0]), None)
    assert partial_files(store) == []


@pytest.mark.parametrize("received", [1000, 150_000, len(APP.blobs[0])])
def test_what_a_power_cut_has_left_is_received_again(
    images: Images, store: LayerStore, fake: FakeRegistry, received: int
) -> None:
    """The table says that bytes are there, which were never written."""
    publish(fake, APP, "1")
    blob = APP.blobs[0]
    file = PartialFile(downloads_directory(store.root) / sha256(blob).replace(":", "/"), len(blob))
    assert file.try_lock()
    file.add(0, received)
    file.close()
    pulled = images.pull(f"{fake.host}/app:1")
    assert pulled[0].image_id == APP.image_id
    assert pulled.fetched == sum(map(len, APP.blobs)) + len(blob) - received
    assert fake.log.all(f"GET .*/blobs/{sha256(blob)}")[-1].headers.get("Range") is None


def test_a_layer_that_stays_damaged_is_an_error_and_leaves_no_file_of_it(
    images: Images, store: LayerStore, fake: FakeRegistry
) -> None:
    publish(fake, APP, "1")
    bad = sha256(APP.blobs[1])
    fake.faults.on(f"GET .*/blobs/{bad}").flip_byte(at=100_000)
    with pytest.raises(InvalidImage, match="layer 2 of 3"):
        images.pull(f"{fake.host}/app:1")
    assert fake.log.count(f"GET .*/blobs/{bad}") == 2
    assert bad.partition(":")[2] not in [path.name for path in partial_files(store)]
    assert (store.layers(), images.all()) == ({}, [])


def test_all_damaged_files_of_an_earlier_pull_are_received_again(
    images: Images, store: LayerStore, fake: FakeRegistry
) -> None:
    publish(fake, APP, "1")
    for blob in APP.blobs[:2]:
        path = downloads_directory(store.root) / sha256(blob).replace(":", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        file = PartialFile(path, len(blob))
        assert file.try_lock()
        file.write_at(0, blob[:-1] + bytes([blob[-1] ^ 1]))
        file.add(0, len(blob))
        file.close()
    assert images.pull(f"{fake.host}/app:1").fetched == sum(map(len, APP.blobs))
    assert partial_files(store) == []


def test_a_layer_that_is_not_the_one_of_the_config(images: Images, store: LayerStore, fake: FakeRegistry) -> None:
    wrong = ImageSpec((layer(1),), packed=[gzip.compress(layer(2), 1)])
    publish(fake, wrong, "1")
    with pytest.raises(InvalidImage, match="the digest of its tar is"):
        images.pull(f"{fake.host}/app:1")
    assert fake.log.count(f"GET .*/blobs/{sha256(wrong.blobs[0])}") == 1
    assert store.layers() == {}


def test_a_missing_layer_is_an_error_that_names_it(images: Images, store: LayerStore, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    missing = sha256(APP.blobs[2])
    del fake.repository("app").blobs[missing]
    with pytest.raises(NotInRegistry, match=missing):
        images.pull(f"{fake.host}/app:1")
    assert (store.layers(), images.all()) == ({}, [])


def test_a_pull_that_failed_goes_on_where_it_stopped(images: Images, store: LayerStore, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    first, second, third = APP.blobs

    def is_complete(blob: bytes) -> bool:
        path = downloads_directory(store.root) / sha256(blob).replace(":", "/")
        with path.open("rb") as file:
            return read_table(file.fileno(), len(blob)) == [(0, len(blob))]

    def wait_for_the_others() -> None:
        while not (is_complete(first) and is_complete(second)):
            time.sleep(0.01)

    rule = fake.faults.on(f"GET .*/blobs/{sha256(third)}", times=1).error(404, "BLOB_UNKNOWN")
    rule.then(wait_for_the_others)
    with pytest.raises(NotInRegistry):
        images.pull(f"{fake.host}/app:1")
    fake.log.clear()
    pulled = images.pull(f"{fake.host}/app:1")
    assert pulled.fetched == sent(fake, APP.blobs) == len(third)
    assert pulled.downloaded == tuple(map(sha256, APP.blobs))


def test_connections_that_are_cut_go_on(images: Images, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    fake.faults.on("GET .*/blobs/", times=3).cut(after=50_000)
    assert images.pull(f"{fake.host}/app:1").fetched == sum(map(len, APP.blobs))
    assert sent(fake, APP.blobs) <= sum(map(len, APP.blobs)) + 3 * 50_000


def test_bodies_of_which_the_length_is_not_announced(images: Images, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    fake.faults.on("GET .*/blobs/").without_length()
    fake.faults.on("GET .*/blobs/", times=2).cut(after=50_000)
    assert images.pull(f"{fake.host}/app:1")[0].image_id == APP.image_id
    more = spec(layer(7))
    publish(fake, more, "2")
    fake.faults.clear()
    fake.faults.on(f"GET .*/blobs/{sha256(more.blobs[0])}").endless()
    assert images.pull(f"{fake.host}/app:2")[0].image_id == more.image_id


def test_a_server_without_ranges(images: Images, store: LayerStore, fake: FakeRegistry) -> None:
    image = spec(layer(1))
    publish(fake, image, "1")
    fake.faults.on("GET .*/blobs/").ignore_range()
    fake.faults.on(f"GET .*/blobs/{sha256(image.blobs[0])}", times=1).cut(after=100_000)
    assert images.pull(f"{fake.host}/app:1")[0].image_id == image.image_id


def test_a_blob_of_another_size_is_refused(images: Images, fake: FakeRegistry) -> None:
    image = spec(layer(1))
    publish(fake, image, "1")
    fake.faults.on(f"GET .*/blobs/{sha256(image.blobs[0])}").long(10)
    with pytest.raises(InvalidAnswer, match="bytes there, not"):
        images.pull(f"{fake.host}/app:1")


def test_an_artifact_is_no_image(images: Images, fake: FakeRegistry) -> None:
    data = b"{}"
    fake.add_blob("app", data)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/x.thing",
        "config": descriptor(data, "application/vnd.oci.empty.v1+json"),
        "layers": [descriptor(data, "application/vnd.oci.empty.v1+json")],
    }
    fake.add_manifest("app", document, OCI_MANIFEST, "1")
    with pytest.raises(InvalidImage, match=r"an artifact, not an image: application/x\.thing"):
        images.pull(f"{fake.host}/app:1")
    assert fake.log.count("/blobs/") == 0


def test_a_layer_larger_than_the_limit_is_not_begun(open_store: OpenStore, fake: FakeRegistry) -> None:
    store = open_store(max_layer_size=100_000)
    publish(fake, APP, "1")
    with pytest.raises(InvalidImage, match="it is larger than the limit of 100000 bytes"):
        Images(store).pull(f"{fake.host}/app:1")
    assert sent(fake, APP.blobs) == 0


def test_a_layer_for_which_the_disk_has_no_room_is_not_begun(
    images: Images, store: LayerStore, fake: FakeRegistry
) -> None:
    config = ImageSpec((b"x",)).config
    fake.add_blob("app", config)
    huge = {"mediaType": OCI_LAYER, "digest": sha256(b"x"), "size": 1 << 60}
    document = {"schemaVersion": 2, "config": descriptor(config, OCI_CONFIG), "layers": [huge]}
    fake.add_manifest("app", document, OCI_MANIFEST, "1")
    with pytest.raises(OSError, match="No space left on device") as caught:
        images.pull(f"{fake.host}/app:1")
    assert caught.value.filename == str(downloads_directory(store.root))
    assert fake.log.count("/blobs/sha256") == 1


def foreign(fake: FakeRegistry, *urls: str) -> bytes:
    """Add an image whose only layer is foreign, and return the layer."""
    image = spec(layer(9))
    config, blob = image.config, image.blobs[0]
    fake.add_blob("app", config)
    kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    document = {
        "schemaVersion": 2,
        "config": descriptor(config, OCI_CONFIG),
        "layers": [descriptor(blob, kind, urls=list(urls))],
    }
    fake.add_manifest("app", document, OCI_MANIFEST, "1")
    return blob


def test_a_foreign_layer_comes_from_where_the_manifest_says(images: Images, fake: FakeRegistry) -> None:
    with FakeRegistry() as elsewhere:
        elsewhere.faults.on("/gone").status(404)
        elsewhere.faults.on("/moved").status(307, Location="/v2/x/blobs/" + sha256(spec(layer(9)).blobs[0]))
        blob = foreign(fake, f"{elsewhere.url}/gone", "ftp://127.0.0.1/x", f"{elsewhere.url}/moved")
        elsewhere.add_blob("x", blob)
        pulled = images.pull(f"{fake.host}/app:1")
        assert pulled.fetched == len(blob)
        assert elsewhere.log.count() == 3
        assert not any(request.headers.get("Authorization") for request in elsewhere.log.all())


def test_a_foreign_layer_is_asked_for_at_the_registry_first(images: Images, fake: FakeRegistry) -> None:
    with FakeRegistry() as elsewhere:
        fake.add_blob("app", foreign(fake, f"{elsewhere.url}/x"))
        images.pull(f"{fake.host}/app:1")
        assert elsewhere.log.count() == 0


def test_a_foreign_layer_that_nobody_has(images: Images, fake: FakeRegistry) -> None:
    foreign(fake, "http://127.0.0.1:1/x", "file:///etc/passwd", "http://user@127.0.0.1/x")
    with pytest.raises(NotInRegistry):
        images.pull(f"{fake.host}/app:1")


def test_a_foreign_layer_goes_on_where_it_stopped(images: Images, fake: FakeRegistry) -> None:
    with FakeRegistry() as elsewhere:
        blob = foreign(fake, f"{elsewhere.url}/v2/x/blobs/{sha256(spec(layer(9)).blobs[0])}")
        elsewhere.add_blob("x", blob)
        elsewhere.faults.on("GET", times=1).cut(after=200_000)
        with pytest.raises(RegistryUnavailable, match="the transfer of a foreign layer broke") as caught:
            images.pull(f"{fake.host}/app:1")
        assert caught.value.__notes__ == ["what has arrived is kept for the next pull"]
        assert 0 < images.pull(f"{fake.host}/app:1").fetched <= len(blob) - 100_000


def test_other_blobs_have_no_other_places(images: Images, fake: FakeRegistry) -> None:
    image = spec(layer(1))
    with FakeRegistry() as elsewhere:
        fake.add_blob("app", image.config)
        entry = descriptor(image.blobs[0], OCI_LAYER + "+gzip", urls=[f"{elsewhere.url}/x"])
        document = {"schemaVersion": 2, "config": descriptor(image.config, OCI_CONFIG), "layers": [entry]}
        fake.add_manifest("app", document, OCI_MANIFEST, "1")
        with pytest.raises(NotInRegistry):
            images.pull(f"{fake.host}/app:1")
        assert elsewhere.log.count() == 0


def test_the_digest_of_a_pulled_image_is_one_of_its_names(images: Images, fake: FakeRegistry) -> None:
    ours, other = spec(layer(1), architecture="amd64"), spec(layer(2), architecture="arm64")
    digest = add_index(fake, "multi", ours, other, tag="1")
    manifest = publish(fake, ours, repository="multi")
    pulled = images.pull(f"{fake.host}/multi:1", all_platforms=True)
    for one in (digest, manifest):
        assert images.get(f"{fake.host}/multi@{one}").image_id == ours.image_id
    assert images.get(f"{fake.host}/multi@{digest}", platform="linux/arm64").image_id == other.image_id
    with pytest.raises(ImageDoesNotExist):
        images.get(f"{fake.host}/app@{digest}")
    with pytest.raises(ImageDoesNotExist):
        images.remove(f"{fake.host}/multi@{digest}")
    assert len(images.all()) == len(pulled) == 2


def test_names_that_cannot_be(images: Images, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    with pytest.raises(InvalidReference):
        images.pull(f"{fake.host}/App:1")
    with pytest.raises(InvalidReference, match="has a digest"):
        images.pull(f"{fake.host}/app:1", name=f"app@{'sha256:' + '1' * 64}")
    with pytest.raises(NotInRegistry, match="app:2"):
        images.pull(f"{fake.host}/app:2")


def test_a_store_that_is_only_read(store: LayerStore, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    with LayerStore.open(store.config, read_only=True) as reading, pytest.raises(ReadOnlyStore):
        Images(reading).pull(f"{fake.host}/app:1")
    assert fake.log.count() == 0


def test_events(images: Images, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    images.pull(f"{fake.host}/app:1")
    more = spec(*APP.layers, layer(4))
    publish(fake, more, "2")
    events: list[BlobEvent] = []
    images.pull(f"{fake.host}/app:2", progress=events.append)
    new = sha256(more.blobs[3])
    states = [event.state for event in events if event.name == new]
    assert [state for state in dict.fromkeys(states) if state != "unpacking"] == ["waiting", "downloading", "done"]
    assert {event.state for event in events if event.name != new} == {"exists"}
    received = [event.done for event in events if event.name == new and event.state == "downloading"]
    assert received == sorted(received)


def test_the_repository_is_known_to_have_the_layers(images: Images, store: LayerStore, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    image = images.pull(f"{fake.host}/app:1")[0]
    publish(fake, APP, "1", repository="other")
    images.pull(f"{fake.host}/other:1")
    sources = BlobSources(store.context.image_db.path)
    digest = sha256(APP.blobs[0])
    assert sources.of(image.diff_ids[0]) == [
        BlobSource(digest, f"{fake.host}/other"),
        BlobSource(digest, f"{fake.host}/app"),
    ]


@pytest.mark.parametrize("error", [0, errno.EXDEV])
def test_compressed_layers_are_kept_as_they_were_received(
    open_store: OpenStore, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    store = open_store(keep_blobs="always")
    image = spec(layer(1), layer(2))
    publish(fake, image, "1")
    copied: list[str] = []
    monkeypatch.setattr(compressed, "spool", lambda blob, *rest: copied.append(rest[0]) or spool(blob, *rest))
    if error:
        monkeypatch.setattr(PartialFile, "move", lambda *_: (_ for _ in ()).throw(OSError(error, "another disk")))
    Images(store).pull(f"{fake.host}/app:1")
    kept = KeptBlobs(store.root, store.driver_name)
    digests = [sha256(blob) for blob in image.blobs]
    for diff_id, digest, blob in zip(map(DiffID.of, image.layers), digests, image.blobs, strict=True):
        assert b"".join(kept.read(diff_id, digest)) == blob
        assert kept.path_of(diff_id, digest).stat().st_size == len(blob)
        assert stat.S_IMODE(kept.path_of(diff_id, digest).stat().st_mode) == 0o600
    assert copied == (digests if error else [])
    assert partial_files(store) == []
    assert collect_garbage(store) == []


def test_an_image_without_layers(images: Images, fake: FakeRegistry) -> None:
    publish(fake, ImageSpec(()), "1")
    pulled = images.pull(f"{fake.host}/app:1")
    assert (pulled[0].image_id, pulled.fetched) == (ImageSpec(()).image_id, 0)


def test_the_same_layer_twice_is_received_once(images: Images, fake: FakeRegistry) -> None:
    image = spec(APP.layers[0], APP.layers[0])
    publish(fake, image, "1")
    assert images.pull(f"{fake.host}/app:1").fetched == len(APP.blobs[0])


def test_a_registry_that_is_not_there(images: Images, store: LayerStore) -> None:
    with pytest.raises(RegistryUnavailable):
        images.pull("127.0.0.1:1/app:1")
    assert images.all() == []


def test_uncompressed_layers(images: Images, fake: FakeRegistry) -> None:
    image = ImageSpec((layer(1),))
    publish(fake, image, "1")
    assert images.pull(f"{fake.host}/app:1")[0].image_id == image.image_id
    fake.faults.on(f"GET .*/blobs/{sha256(layer(2))}").flip_byte(at=1000)
    publish(fake, ImageSpec((layer(2),)), "2")
    with pytest.raises(InvalidImage, match="digest"):
        images.pull(f"{fake.host}/app:2")


def test_two_threads_that_pull_one_image_receive_it_once(images: Images, fake: FakeRegistry) -> None:
    publish(fake, APP, "1")
    fake.faults.on("GET .*/blobs/").slow(100_000, 0.01)
    with ThreadPoolExecutor(2) as pool:
        pulled = list(pool.map(images.pull, [f"{fake.host}/app:1"] * 2))
    assert sorted(one.fetched for one in pulled) == [0, sum(map(len, APP.blobs))]
    assert sent(fake, APP.blobs) == sum(map(len, APP.blobs))
