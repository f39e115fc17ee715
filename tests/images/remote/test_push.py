"""Pushing images: digests that stay, blobs that are not sent, compression, several platforms."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import LayerStore, LayerStoreError
from layerstore_core.base.digests import DiffID
from layerstore_core.errors import InvalidReference
from layerstore_core.images import Images
from layerstore_core.images.keep.compression import Compression
from layerstore_core.images.remote.events import BlobEvent
from layerstore_core.records.blob_sources import BlobSource, BlobSources
from tests.conftest import OpenStore
from tests.images.archives import Files, ImageSpec, blob_path, descriptor, put_json, sha256
from tests.images.keep.layouts import image_for, multi_platform, named
from tests.images.keep.test_incoming import config, foreign_gzip
from tests.images.remote.pushing import (
    NAME,
    blob_bytes,
    load_image,
    load_layout,
    load_made,
    manifest_at,
    tag_of,
)
from tests.registry.fake_content import DOCKER_MANIFEST, OCI_MANIFEST
from tests.registry.fake_registry import FakeRegistry
from tests.store.layers import BASE, MIDDLE, TOP

GZIP, ZSTD = Compression.parse("gzip:4"), Compression.parse("zstd:19")


def compressed(data: bytes, how: Compression = GZIP) -> bytes:
    return b"".join(how.compress([data]))


def python_gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=7)


def states(pushed: Any) -> list[str]:
    return [blob.state for blob in pushed.blobs]


def sources_of(store: LayerStore) -> BlobSources:
    return BlobSources(store.context.image_db.path)


def test_layers_of_an_image_made_here_are_compressed_the_same_way_each_time(
    images: Images, fake_registry: FakeRegistry
) -> None:
    load_made(images, BASE, TOP)
    pushed = images.push("app:1", f"{fake_registry.host}/team/app:1")
    assert pushed.name == f"{fake_registry.host}/team/app:1"
    assert pushed.digest == tag_of(fake_registry, "team/app:1")
    assert states(pushed) == ["uploaded"] * 3
    media_type, manifest = manifest_at(fake_registry, "team/app:1")
    assert media_type == pushed.media_type == OCI_MANIFEST
    layers = [compressed(BASE), compressed(TOP)]
    assert manifest["layers"] == [descriptor(layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers]
    assert [fake_registry.repository("team/app").blobs[sha256(layer)] for layer in layers] == layers
    assert pushed.sent == blob_bytes(fake_registry) == sum(blob.size for blob in pushed.blobs)


def test_a_second_push_sends_and_compresses_nothing(
    images: Images, fake_registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_made(images, BASE, TOP)
    first = images.push("app:1", f"{fake_registry.host}/team/app:1")
    fake_registry.log.clear()
    monkeypatch.setattr(Compression, "compress", None)
    second = images.push("app:1", f"{fake_registry.host}/team/app:2")
    assert (second.digest, states(second), blob_bytes(fake_registry)) == (first.digest, ["exists"] * 3, 0)
    assert fake_registry.log.count("POST") == 0
    again = images.push("app:1", f"{fake_registry.host}/team/app:3", compression="gzip:4")
    assert (again.digest, again.sent) == (first.digest, 0)


def test_another_repository_gets_layers_without_their_bytes(images: Images, fake_registry: FakeRegistry) -> None:
    load_made(images, BASE, TOP)
    first = images.push("app:1", f"{fake_registry.host}/team/app:1")
    fake_registry.log.clear()
    second = images.push("app:1", f"{fake_registry.host}/other:1")
    assert second.digest == first.digest == tag_of(fake_registry, "other:1")
    assert states(second) == ["mounted", "mounted", "uploaded"]
    assert blob_bytes(fake_registry) == second.sent == second.blobs[2].size
    assert second.blobs[2].kind == "config"


def test_where_nothing_can_be_mounted_layers_are_sent(images: Images, fake_registry: FakeRegistry) -> None:
    fake_registry.settings.mount = False
    load_made(images, BASE, TOP)
    first = images.push("app:1", f"{fake_registry.host}/team/app:1")
    second = images.push("app:1", f"{fake_registry.host}/other:1")
    assert second.digest == first.digest == tag_of(fake_registry, "other:1")
    assert states(second) == ["uploaded"] * 3
    # The upload that began instead of the mount was used.
    assert fake_registry.log.count("POST /v2/other/blobs/uploads") == 3


def test_the_layers_of_the_base_image_are_mounted_or_there(images: Images, fake_registry: FakeRegistry) -> None:
    load_made(images, BASE, MIDDLE, name="base:1")
    images.push("base:1", f"{fake_registry.host}/base:1")
    load_made(images, BASE, MIDDLE, TOP)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert states(pushed)[:2] == ["mounted", "mounted"]
    layers = manifest_at(fake_registry, "app:1")[1]["layers"]
    assert [layer["digest"] for layer in layers] == [sha256(compressed(layer)) for layer in (BASE, MIDDLE, TOP)]
    assert len({layer["mediaType"] for layer in layers}) == 1


@pytest.mark.parametrize("how", [GZIP, ZSTD], ids=["gzip", "zstd"])
def test_the_type_of_a_blob_that_only_the_registry_has_is_found_there(
    images: Images, store: LayerStore, fake_registry: FakeRegistry, how: Compression
) -> None:
    load_made(images, BASE)
    blob = compressed(BASE, how)
    fake_registry.add_blob("base", blob)
    with store.context.changing_images():
        sources_of(store).add(DiffID.of(BASE), [BlobSource(sha256(blob), f"{fake_registry.host}/base")])
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert states(pushed) == ["mounted", "uploaded"]
    (layer,) = manifest_at(fake_registry, "app:1")[1]["layers"]
    assert layer == descriptor(blob, f"application/vnd.oci.image.layer.v1.tar+{how.method}")


def test_an_image_from_a_layout_keeps_its_manifest(images: Images, fake_registry: FakeRegistry) -> None:
    image = ImageSpec((BASE, TOP), packed=(python_gzip(BASE), python_gzip(TOP)))
    digest = load_image(images, image)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert (pushed.digest, pushed.manifests[0].as_loaded) == (digest, True)
    assert images.push("app:1", f"{fake_registry.host}/app@{digest}").digest == digest


def test_a_layer_that_cannot_be_made_again_keeps_its_digest_where_the_registry_has_it(
    images: Images, fake_registry: FakeRegistry
) -> None:
    image = ImageSpec((BASE, TOP), packed=(foreign_gzip(BASE), foreign_gzip(TOP)))
    digest = load_image(images, image)
    for blob in image.packed:
        fake_registry.add_blob("app", blob)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert (pushed.digest, states(pushed)) == (digest, ["exists", "exists", "uploaded"])
    elsewhere = images.push("app:1", f"{fake_registry.host}/other:1")  # mounted from where it was found
    assert (elsewhere.digest, states(elsewhere)) == (digest, ["mounted", "mounted", "uploaded"])


def test_a_kept_blob_is_sent_as_it_came(images: Images, store: LayerStore, fake_registry: FakeRegistry) -> None:
    config(store, "unreproducible")
    image = ImageSpec((BASE, TOP), packed=(foreign_gzip(BASE), compressed(TOP, ZSTD)))
    digest = load_image(images, image)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert (pushed.digest, states(pushed)) == (digest, ["uploaded"] * 3)


def test_a_layer_that_cannot_be_had_is_compressed_and_the_manifest_is_new(
    images: Images, fake_registry: FakeRegistry
) -> None:
    image = ImageSpec((BASE, TOP), packed=(foreign_gzip(BASE), python_gzip(TOP)))
    digest = load_image(images, image)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert pushed.digest != digest
    layers = manifest_at(fake_registry, "app:1")[1]["layers"]
    assert [layer["digest"] for layer in layers] == [sha256(compressed(BASE)), sha256(python_gzip(TOP))]
    with pytest.raises(LayerStoreError, match=f"would have the digest {pushed.digest}"):
        images.push("app:1", f"{fake_registry.host}/app:2@{digest}")
    assert tag_of(fake_registry, "app:2") is None


def test_a_digest_that_nobody_has_compared_with_the_layer_is_not_used(
    images: Images, fake_registry: FakeRegistry, said: list[Any]
) -> None:
    # The second image says that it consists of the layers of the first one, but its blobs are something else. Layers
    # that are here are not read when it is loaded.
    good = ImageSpec((BASE, TOP), packed=(python_gzip(BASE), python_gzip(TOP)))
    load_image(images, good)
    bad = ImageSpec((BASE, TOP), packed=(python_gzip(b"evil" * 500), python_gzip(b"other" * 500)))
    digest = load_image(images, bad, "docker.io/library/bad:1")
    for blob in bad.packed:
        fake_registry.add_blob("bad", blob)
    pushed = images.push("bad:1", f"{fake_registry.host}/bad:1")
    assert pushed.digest != digest
    layers = manifest_at(fake_registry, "bad:1")[1]["layers"]
    assert [layer["digest"] for layer in layers] == [sha256(blob) for blob in good.packed]


def test_layers_that_came_uncompressed_are_compressed_unless_a_registry_had_them_so(
    images: Images, store: LayerStore, fake_registry: FakeRegistry
) -> None:
    digest = load_image(images, ImageSpec((BASE, TOP)))
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert pushed.digest != digest
    assert [blob.digest for blob in pushed.blobs[:2]] == [sha256(compressed(BASE)), sha256(compressed(TOP))]
    as_it_is = images.push("app:1", f"{fake_registry.host}/plain:1", compression="none")
    assert (as_it_is.digest, as_it_is.manifests[0].as_loaded) == (digest, True)
    # Now a registry has had them so.
    fake_registry.repository("plain").blobs.clear()
    assert images.push("app:1", f"{fake_registry.host}/third:1").digest == digest


@pytest.mark.parametrize("text", ["zstd", "zstd:1", "gzip:9", "none"])
def test_compression_that_is_asked_for(images: Images, fake_registry: FakeRegistry, text: str) -> None:
    how = Compression.parse(text)
    load_image(images, ImageSpec((BASE,), packed=(python_gzip(BASE),)))
    pushed = images.push("app:1", f"{fake_registry.host}/app:1", compression=text)
    blob = compressed(BASE, how)
    media_type, manifest = manifest_at(fake_registry, "app:1")
    assert media_type == OCI_MANIFEST
    assert manifest["layers"] == [descriptor(blob, f"application/vnd.oci.image.layer.v1.tar{how.suffix}")]
    assert images.push("app:1", f"{fake_registry.host}/app:1", compression=text).digest == pushed.digest
    elsewhere = images.push("app:1", f"{fake_registry.host}/other:1", compression=text)
    assert (elsewhere.digest, elsewhere.blobs[0].state) == (pushed.digest, "mounted")


def test_the_manifest_of_an_image_made_here_is_kept(
    images: Images, fake_registry: FakeRegistry, tmp_path: Path
) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(BASE)
    images.append(None, [layer], name="made:1")
    pushed = images.push("made:1", f"{fake_registry.host}/made:1")
    saved = images.save("made:1", tmp_path / "layout", form="oci")
    assert [(one.digest, one.as_loaded) for one in saved.manifests] == [(pushed.digest, True)]


def test_schema_2_of_docker_stays_what_it_is(images: Images, fake_registry: FakeRegistry) -> None:
    image = ImageSpec((BASE,), packed=(python_gzip(BASE),))
    files: Files = {blob_path(data): data for data in (image.config, *image.packed)}
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor(image.config, "application/vnd.docker.container.image.v1+json"),
        "layers": [descriptor(image.packed[0], "application/vnd.docker.image.rootfs.diff.tar.gzip")],
    }
    entry = put_json(files, manifest, DOCKER_MANIFEST)
    load_layout(images, files, named(entry, NAME))
    assert images.push("app:1", f"{fake_registry.host}/app:1").digest == entry["digest"]
    assert manifest_at(fake_registry, "app:1") == (DOCKER_MANIFEST, manifest)
    images.push("app:1", f"{fake_registry.host}/app:2", compression="zstd")
    media_type, anew = manifest_at(fake_registry, "app:2")
    assert media_type == OCI_MANIFEST
    assert "docker" not in json.dumps(anew)


@pytest.mark.parametrize(
    "kind", ["docker.image.rootfs.foreign.diff.tar.gzip", "oci.image.layer.nondistributable.v1.tar+gzip"]
)
def test_foreign_layers_are_not_pushed(images: Images, fake_registry: FakeRegistry, kind: str) -> None:
    fake_registry.settings.check_blobs = False
    image = ImageSpec((BASE, TOP), packed=(foreign_gzip(BASE), python_gzip(TOP)))
    files: Files = {blob_path(data): data for data in (image.config, *image.packed)}
    base = descriptor(image.packed[0], f"application/vnd.{kind}", urls=["https://example.com/base"])
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(image.config, "application/vnd.oci.image.config.v1+json"),
        "layers": [base, descriptor(image.packed[1], "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    entry = put_json(files, manifest, OCI_MANIFEST)
    load_layout(images, files, named(entry, NAME))
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert (pushed.digest, states(pushed)) == (entry["digest"], ["left", "uploaded", "uploaded"])
    assert base["digest"] not in fake_registry.repository("app").blobs


PLATFORMS = [
    image_for(name, (BASE, layer), (python_gzip(BASE), python_gzip(layer)))
    for name, layer in (("amd64", MIDDLE), ("arm64", TOP))
]


def test_all_platforms_go_with_their_index_and_attestations(images: Images, fake_registry: FakeRegistry) -> None:
    files, index = multi_platform(*PLATFORMS)
    load_layout(images, files, named(index, NAME), all_platforms=True)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1", all_platforms=True)
    assert pushed.digest == index["digest"] == tag_of(fake_registry, "app:1")
    assert len(pushed.manifests) == 2
    assert states(pushed) == ["uploaded"] * len(pushed.blobs)
    assert len(pushed.blobs) == 3 + 2 + 3  # layers, configs, and of attestations two statements and one config
    # Each manifest came after all that it names, which the registry checks, and the tag last.
    assert fake_registry.log.all("PUT .*/manifests")[-1].target.endswith("/manifests/1")


@pytest.mark.parametrize("platform", [None, "linux/arm64"])
def test_one_platform_of_several(images: Images, fake_registry: FakeRegistry, platform: str | None) -> None:
    files, index = multi_platform(*PLATFORMS)
    load_layout(images, files, named(index, NAME), all_platforms=True)
    entries = json.loads(files[blob_path_of(index)])["manifests"]
    wanted = entries[2 if platform else 0]["digest"]
    pushed = images.push("app:1", f"{fake_registry.host}/app:1", platform=platform)
    assert (pushed.digest, len(pushed.manifests)) == (wanted, 1)


def blob_path_of(entry: dict[str, Any]) -> str:
    return f"blobs/{entry['digest'].replace(':', '/')}"


def test_an_index_of_changed_manifests_is_made_anew(images: Images, fake_registry: FakeRegistry) -> None:
    files, index = multi_platform(*PLATFORMS)
    load_layout(images, files, named(index, NAME), all_platforms=True)
    pushed = images.push("app:1", f"{fake_registry.host}/app:1", all_platforms=True, compression="zstd")
    assert pushed.digest != index["digest"]
    media_type, made = manifest_at(fake_registry, "app:1")
    assert media_type == "application/vnd.oci.image.index.v1+json"
    assert [entry["platform"]["architecture"] for entry in made["manifests"]] == ["amd64", "arm64"]


def test_without_a_name_in_a_registry_the_image_goes_to_its_own(images: Images, fake_registry: FakeRegistry) -> None:
    load_made(images, BASE, name=f"{fake_registry.host}/team/app:1")
    pushed = images.push(f"{fake_registry.host}/team/app:1")
    assert tag_of(fake_registry, "team/app:1") == pushed.digest
    image_id = images.all()[0].image_id
    with pytest.raises(InvalidReference, match="name where it is to be pushed to"):
        images.push(str(image_id))
    with pytest.raises(InvalidReference):
        images.push(str(image_id), "Bad Name")
    with pytest.raises(ValueError, match="not a compression"):
        images.push(str(image_id), f"{fake_registry.host}/x:1", compression="lzma")
    assert images.push(str(image_id), f"{fake_registry.host}/x:1").digest == pushed.digest


def test_events_say_what_becomes_of_each_blob(images: Images, fake_registry: FakeRegistry) -> None:
    events: list[BlobEvent] = []
    load_made(images, BASE, TOP)
    images.push("app:1", f"{fake_registry.host}/app:1", progress=events.append)
    for layer in (BASE, TOP):
        mine = [event for event in events if event.name == sha256(layer)]
        found = list(dict.fromkeys(event.state for event in mine))
        assert found == ["waiting", "compressing", "uploading", "done"]
        assert {event.digest for event in mine if event.state == "done"} == {sha256(compressed(layer))}
        assert all(event.done <= event.size for event in mine)
    assert [event.kind for event in events if event.state == "done"].count("manifest") == 1


def test_a_store_that_may_only_be_read_can_be_pushed_from(
    images: Images, store: LayerStore, open_store: OpenStore, fake_registry: FakeRegistry
) -> None:
    load_made(images, BASE)
    store.close()
    with LayerStore.open(store.context.config, read_only=True) as reader:
        pushed = Images(reader).push("app:1", f"{fake_registry.host}/app:1")
    assert pushed.digest == tag_of(fake_registry, "app:1")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data[1:]])
def test_a_damaged_kept_blob_is_not_sent(
    images: Images, store: LayerStore, fake_registry: FakeRegistry, change: Callable[[bytes], bytes], said: list[Any]
) -> None:
    config(store, "unreproducible")
    packed = foreign_gzip(BASE)
    digest = load_image(images, ImageSpec((BASE,), packed=(packed,)))
    (kept,) = (store.root / "layerstore" / "blobs").rglob(sha256(packed)[7:])
    kept.write_bytes(change(packed))
    pushed = images.push("app:1", f"{fake_registry.host}/app:1")
    assert pushed.digest != digest
    assert sha256(packed) not in fake_registry.repository("app").blobs
    assert any("cannot be used" in record["message"] for record in said)


def test_nothing_is_pushed_of_a_layer_that_is_damaged(
    images: Images, store: LayerStore, fake_registry: FakeRegistry
) -> None:
    load_made(images, BASE, TOP)
    for path in store.root.rglob("hosts"):
        path.write_bytes(b"127.0.0.1 evilhost1\n")
    with pytest.raises(LayerStoreError):
        images.push("app:1", f"{fake_registry.host}/app:1")
    assert tag_of(fake_registry, "app:1") is None
