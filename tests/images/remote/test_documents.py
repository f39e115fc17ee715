"""What is read of an image besides its layers, and that it is bounded."""

from __future__ import annotations

import json

import pytest

from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.remote import documents
from layerstore_core.images.remote.documents import RemoteImage, read_image
from layerstore_core.registry import InvalidAnswer, NotInRegistry, Registry
from tests.images.archives import ImageSpec, descriptor
from tests.images.remote.published import layer, publish, spec
from tests.registry.fake_content import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from tests.registry.fake_registry import FakeRegistry


def read(fake: FakeRegistry, name: str = "app:1", *, all_platforms: bool = False) -> RemoteImage:
    with Registry(fake.host) as registry:
        return read_image(registry, Reference.parse(f"{fake.host}/{name}"), all_platforms=all_platforms)


def add_index(fake: FakeRegistry, entries: list[dict[str, object]], *tags: str) -> dict[str, object]:
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    fake.add_manifest("app", data, OCI_INDEX, *tags)
    return descriptor(data, OCI_INDEX)


def entry_of(fake: FakeRegistry, image: ImageSpec, **more: object) -> dict[str, object]:
    digest = publish(fake, image)
    return {**descriptor(fake.repository("app").manifests[digest][1], OCI_MANIFEST), **more}


def test_indexes_in_indexes(fake: FakeRegistry) -> None:
    image = spec(layer(1, 100))
    entry = entry_of(fake, image, platform={"os": "linux", "architecture": "amd64"})
    for _ in range(7):
        entry = add_index(fake, [entry])
    add_index(fake, [entry], "1")
    assert image.config in read(fake).contents.values()


def test_indexes_are_not_followed_without_end(fake: FakeRegistry) -> None:
    entry = entry_of(fake, spec(layer(1, 100)))
    for _ in range(9):
        entry = add_index(fake, [entry])
    add_index(fake, [entry], "1")
    with pytest.raises(InvalidImage, match="indexes are nested more than 8 deep"):
        read(fake)


def test_an_index_that_leads_to_too_many_manifests(fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_READ", 10)
    manifest = fake.repository("app").manifests[publish(fake, ImageSpec(()))][1]
    entries = []
    for number in range(11):
        data = manifest + b" " * number
        fake.add_manifest("app", data, OCI_MANIFEST)
        entries.append(descriptor(data, OCI_MANIFEST))
    add_index(fake, entries, "1")
    with pytest.raises(InvalidImage, match="leads to more than 10 manifests"):
        read(fake, all_platforms=True)


def test_a_manifest_that_is_said_to_be_too_large_is_not_read(fake: FakeRegistry) -> None:
    entry = {**entry_of(fake, spec(layer(1, 100))), "size": 1 << 40}
    add_index(fake, [entry], "1")
    with pytest.raises(InvalidImage, match="the limit for a manifest"):
        read(fake)
    assert fake.log.count("/manifests/sha256") == 0


@pytest.mark.parametrize(("size", "message"), [(1 << 40, "the limit is"), (7, "bytes instead of 7")])
def test_a_config_of_another_size(fake: FakeRegistry, size: int, message: str) -> None:
    config = spec(layer(1, 100)).config
    fake.add_blob("app", config)
    document = {"schemaVersion": 2, "config": {**descriptor(config, OCI_CONFIG), "size": size}, "layers": []}
    fake.add_manifest("app", document, OCI_MANIFEST, "1")
    with pytest.raises((InvalidImage, InvalidAnswer), match=message):
        read(fake)


def test_a_config_with_another_digest(fake: FakeRegistry) -> None:
    image = spec(layer(1, 100))
    publish(fake, image, "1")
    fake.faults.on("/blobs/").flip_byte(3)
    with pytest.raises(InvalidAnswer, match="bytes with another digest"):
        read(fake)


def test_manifests_that_are_missing_are_left_out_of_all_platforms(fake: FakeRegistry) -> None:
    there = entry_of(fake, spec(layer(1, 100)), platform={"os": "linux", "architecture": "amd64"})
    missing = {**descriptor(b"{}", OCI_MANIFEST), "platform": {"os": "linux", "architecture": "arm64"}}
    add_index(fake, [there, missing], "1")
    assert len(read(fake, all_platforms=True).contents) == 3
    add_index(fake, [missing, {**there, "platform": {"os": "linux", "architecture": "arm64", "variant": "v9"}}], "2")
    arm = Platform.parse("linux/arm64/v8")
    with Registry(fake.host) as registry, pytest.raises(NotInRegistry):
        read_image(registry, Reference.parse(f"{fake.host}/app:2"), platform=arm)


def test_what_is_known_is_not_asked_for(fake: FakeRegistry) -> None:
    image = spec(layer(1, 100))
    digest = publish(fake, image, "1")
    known = {digest: fake.repository("app").manifests[digest][1], image.image_id: image.config}
    with Registry(fake.host) as registry:
        read_image(registry, Reference.parse(f"{fake.host}/app:1"), known=known.get, last=digest)
    assert [request.method for request in fake.log.all()] == ["HEAD"]


@pytest.mark.parametrize(
    "document", [[], {"manifests": {}}, {"manifests": [1]}, {"manifests": [{"digest": "sha256:x", "size": 1}]}]
)
def test_an_index_that_is_none(fake: FakeRegistry, document: object) -> None:
    fake.add_manifest("app", json.dumps(document).encode(), OCI_INDEX, "1")
    with pytest.raises((InvalidImage, InvalidAnswer)):
        read(fake)
