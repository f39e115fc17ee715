"""Manifests: their digests and types, and what is refused; tags and referrers; deleting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from layerstore_core.registry import InvalidAnswer, NotInRegistry, Registry, RegistryDenied, RegistryError
from layerstore_core.registry.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, media_type_of
from tests.registry.fake_content import descriptor, digest_of
from tests.registry.fake_registry import FakeRegistry

LAYER = b"layer"

pytestmark = pytest.mark.usefixtures("nothing_left_open")


@pytest.fixture
def registry(fake_registry: FakeRegistry, pauses: list[float]) -> Iterator[Registry]:
    with Registry(fake_registry.host, settings={}, timeout=5) as registry:
        yield registry


def add(fake: FakeRegistry, *tags: str, **more: Any) -> str:
    return fake.add_image("app", [LAYER], *tags, config={}, **more)


def test_a_manifest_by_tag_and_by_digest(registry: Registry, fake_registry: FakeRegistry) -> None:
    digest = add(fake_registry, "1")
    manifest = registry.manifest("app", "1")
    assert (manifest.digest, manifest.media_type) == (digest, OCI_MANIFEST)
    assert digest_of(manifest.data) == digest
    assert registry.manifest("app", digest) == manifest
    info = registry.manifest_info("app", "1")
    assert info is not None
    assert (info.digest, info.media_type, info.size) == (digest, OCI_MANIFEST, len(manifest.data))


@pytest.mark.parametrize("media_type", [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST])
def test_all_types_are_accepted(registry: Registry, fake_registry: FakeRegistry, media_type: str) -> None:
    part = {"manifests": []} if media_type in (OCI_INDEX, DOCKER_LIST) else {"layers": [], "config": {}}
    fake_registry.add_manifest("app", {"schemaVersion": 2, "mediaType": media_type, **part}, media_type, "1")
    assert registry.manifest("app", "1").media_type == media_type
    assert registry.manifest_info("app", "1") is not None


def test_sha512(registry: Registry, fake_registry: FakeRegistry) -> None:
    data = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    digest = digest_of(data, "sha512")
    assert registry.put_manifest("app", digest, data, OCI_INDEX).digest == digest
    assert registry.manifest("app", digest).digest == digest


@pytest.mark.parametrize("fault", ["flip_byte", "short", "long"])
def test_wrong_bytes_are_refused(registry: Registry, fake_registry: FakeRegistry, fault: str) -> None:
    digest = add(fake_registry)
    getattr(fake_registry.faults.on("manifests"), fault)(1)
    with pytest.raises(InvalidAnswer, match=r"sends has another digest, sha256:"):
        registry.manifest("app", digest)


def test_what_the_server_says_of_the_digest_is_a_hint(registry: Registry, fake_registry: FakeRegistry) -> None:
    digest = add(fake_registry, "1")
    fake_registry.faults.on("manifests").header("Docker-Content-Digest", digest_of(b"other"))
    assert registry.manifest("app", "1").digest == digest
    fake_registry.faults.clear()
    fake_registry.faults.on("manifests").header("Docker-Content-Digest", "sha256:../../etc")
    info = registry.manifest_info("app", "1")
    assert info is not None
    assert info.digest == ""


OTHER = "application/vnd.oci.artifact.manifest.v1+json"
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


@pytest.mark.parametrize(
    ("document", "content_type", "reason"),
    [
        ({}, SCHEMA_1, "schema 1, which Docker gave up"),
        ({"schemaVersion": 1}, "", "schema 1"),
        ({"schemaVersion": 2, "fsLayers": []}, OCI_MANIFEST, "schema 1"),
        ({"manifests": [], "layers": []}, OCI_MANIFEST, "both manifests and layers"),
        ({"manifests": [], "config": {}}, OCI_INDEX, "both manifests and layers"),
        ({"mediaType": OCI_INDEX, "manifests": []}, DOCKER_LIST, "calls itself .*and the registry calls it"),
        ({"mediaType": 5}, OCI_MANIFEST, "media type is not a string"),
        ({"manifests": []}, OCI_MANIFEST, "parts of another kind"),
        ({"layers": []}, DOCKER_LIST, "parts of another kind"),
        ({}, "application/json", "neither the registry nor it itself"),
        ([], OCI_MANIFEST, "not a JSON object"),
        ("x", OCI_MANIFEST, "not a JSON object"),
    ],
)
def test_what_is_no_manifest_is_refused(
    registry: Registry, fake_registry: FakeRegistry, document: Any, content_type: str, reason: str
) -> None:
    fake_registry.faults.on("manifests").status(200, json.dumps(document).encode(), Content_Type=content_type)
    with pytest.raises(InvalidAnswer, match=f"cannot read the manifest app:1: .*{reason}"):
        registry.manifest("app", "1")


def test_a_manifest_of_schema_1_is_not_taken_for_missing(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.add_manifest("app", {"schemaVersion": 1, "fsLayers": []}, SCHEMA_1, "1")
    with pytest.raises(InvalidAnswer, match="schema 1, which Docker gave up"):
        registry.manifest("app", "1")


@pytest.mark.parametrize(
    ("document", "content_type", "media_type"),
    [
        ({"manifests": []}, "", OCI_INDEX),
        ({"layers": []}, "application/json", OCI_MANIFEST),
        ({"mediaType": DOCKER_LIST, "manifests": []}, "text/plain; charset=utf-8", DOCKER_LIST),
        ({"layers": []}, f"{DOCKER_MANIFEST.upper()}; charset=utf-8", DOCKER_MANIFEST),
        ({"blobs": []}, OTHER, OTHER),
    ],
)  # fmt: skip
def test_the_type_of_a_manifest(document: dict[str, Any], content_type: str, media_type: str) -> None:
    assert media_type_of(json.dumps(document).encode(), content_type) == media_type


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"\xff", b"<html>"], ids=["empty", "deep", "bytes", "html"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        media_type_of(data, OCI_MANIFEST)


def test_a_manifest_that_is_too_long(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.faults.on("manifests").status(200, bytes((8 << 20) + 1))
    with pytest.raises(InvalidAnswer, match=f"more than {8 << 20} bytes"):
        registry.manifest("app", "1")


# Storing.


def test_storing_says_whether_the_subject_is_listed(registry: Registry, fake_registry: FakeRegistry) -> None:
    subject = add(fake_registry, "1")
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": {"digest": subject}}
    data = json.dumps(document).encode()
    put = registry.put_manifest("app", digest_of(data), data, OCI_INDEX)
    assert (put.digest, put.subject_handled) == (digest_of(data), True)
    fake_registry.settings.referrers = False
    assert not registry.put_manifest("app", "tag", data, OCI_INDEX).subject_handled


def test_a_registry_that_stores_something_else(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.faults.on("PUT").header("Docker-Content-Digest", digest_of(b"other"))
    with pytest.raises(InvalidAnswer, match="it stored"):
        registry.put_manifest("app", "1", b'{"manifests": []}', OCI_INDEX)


def test_what_the_registry_does_not_take(registry: Registry, fake_registry: FakeRegistry) -> None:
    data = json.dumps({"mediaType": OCI_MANIFEST, "layers": [descriptor(LAYER, "x")], "config": None}).encode()
    with pytest.raises(RegistryError, match=r"cannot store the manifest app:1.*MANIFEST_BLOB_UNKNOWN") as error:
        registry.put_manifest("app", "1", data, OCI_MANIFEST)
    assert error.value.codes == ("MANIFEST_BLOB_UNKNOWN",)


@pytest.mark.parametrize("reference", ["", "a b", "-a", "a" * 129, "sha256:abc", "a/b", "../1", "a\n"])
def test_what_is_no_reference_is_not_asked_for(registry: Registry, fake_registry: FakeRegistry, reference: str) -> None:
    with pytest.raises(ValueError, match=r"not a (tag|digest)"):
        registry.manifest("app", reference)
    with pytest.raises(ValueError, match=r"not a (tag|digest)"):
        registry.put_manifest("app", reference, b"{}", OCI_INDEX)
    assert fake_registry.log.count() == 0


# Deleting.


def test_deleting(registry: Registry, fake_registry: FakeRegistry) -> None:
    digest = add(fake_registry, "1", "2")
    registry.delete_tag("app", "1")
    assert list(registry.tags("app")) == ["2"]
    registry.delete_manifest("app", digest)
    assert list(registry.tags("app")) == []
    registry.delete_blob("app", digest_of(LAYER))
    assert registry.blob_size("app", digest_of(LAYER)) is None
    for delete, name in ((registry.delete_tag, "1"), (registry.delete_manifest, digest)):
        with pytest.raises(NotInRegistry):
            delete("app", name)
    fake_registry.settings.deletes = False
    add(fake_registry, "1")
    with pytest.raises(RegistryError, match="UNSUPPORTED"):
        registry.delete_tag("app", "1")


def test_a_tag_is_never_taken_for_a_digest(registry: Registry, fake_registry: FakeRegistry) -> None:
    digest = add(fake_registry, "1")
    with pytest.raises(ValueError, match="not a tag"):
        registry.delete_tag("app", digest)
    with pytest.raises(ValueError, match="not a digest"):
        registry.delete_manifest("app", "1")


# Tags.


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("page", [1, 3, 1000])
def test_all_pages_of_tags(registry: Registry, fake_registry: FakeRegistry, page: int, absolute: bool) -> None:
    fake_registry.settings.page = page
    fake_registry.settings.absolute = absolute
    tags = [f"v{number}" for number in range(7)]
    add(fake_registry, *tags)
    assert list(registry.tags("app")) == tags
    assert fake_registry.log.count("tags") == -(-len(tags) // page)


def test_no_tags(registry: Registry, fake_registry: FakeRegistry) -> None:
    with pytest.raises(NotInRegistry, match="NAME_UNKNOWN"):
        list(registry.tags("app"))
    fake_registry.settings.null_tags = True
    fake_registry.repository("app")
    assert list(registry.tags("app")) == []


@pytest.mark.parametrize(
    "link",
    ["<http://127.0.0.1:1/x>; rel=next", "<http://registry.test/v2/app/tags/list>; rel=next", "<file:///x>; rel=next"],
)
def test_links_to_other_hosts_are_not_followed(registry: Registry, fake_registry: FakeRegistry, link: str) -> None:
    add(fake_registry, "1")
    fake_registry.faults.on("tags").header("Link", link)
    with pytest.raises(InvalidAnswer, match="link to its next page is wrong"):
        list(registry.tags("app"))


@pytest.mark.parametrize("link", ["", "<x>", "<x>; rel=prev", '<x>; rel="nexttime"', "x; rel=next", "<x; rel=next"])
def test_links_that_are_not_for_the_next_page(registry: Registry, fake_registry: FakeRegistry, link: str) -> None:
    add(fake_registry, "1")
    fake_registry.faults.on("tags").header("Link", link)
    assert list(registry.tags("app")) == ["1"]


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"tags": [1]}', b'{"tags": {}}', b"x"])
def test_what_is_no_list_of_tags(registry: Registry, fake_registry: FakeRegistry, body: bytes) -> None:
    fake_registry.faults.on("tags").status(200, body)
    if body == b"{}":
        assert list(registry.tags("app")) == []
    else:
        with pytest.raises(InvalidAnswer):
            list(registry.tags("app"))


# Referrers.


def test_referrers_of_all_ways(registry: Registry, fake_registry: FakeRegistry) -> None:
    subject = add(fake_registry, "1")
    for number, kind in enumerate(["a/x", "b/y", "a/x"]):
        add(fake_registry, subject={"digest": subject}, artifactType=kind, annotations={"n": str(number)})
    fake_registry.settings.page = 2
    for fake_registry.settings.filters in (True, False):
        assert len(registry.referrers("app", subject)) == 3
        assert {entry["artifactType"] for entry in registry.referrers("app", subject, "a/x")} == {"a/x"}
        assert len(registry.referrers("app", subject, "a/x")) == 2
    assert registry.referrers("app", digest_of(b"other")) == []


def test_the_fallback_tag(registry: Registry, fake_registry: FakeRegistry) -> None:
    fake_registry.settings.referrers = False
    subject = add(fake_registry, "1")
    assert registry.referrers("app", subject) == []
    entries = [{"digest": digest_of(b"1"), "artifactType": "a/x"}, {"digest": digest_of(b"2"), "artifactType": "b/y"}]
    fake_registry.add_manifest("app", {"manifests": entries}, OCI_INDEX, subject.replace(":", "-"))
    assert registry.referrers("app", subject) == entries
    assert registry.referrers("app", subject, "b/y") == entries[1:]


@pytest.mark.parametrize("status", [400, 405, 501])
def test_other_answers_for_no_referrers(registry: Registry, fake_registry: FakeRegistry, status: int) -> None:
    subject = add(fake_registry, "1")
    entries = [{"digest": digest_of(b"1"), "artifactType": "a/x"}]
    fake_registry.add_manifest("app", {"manifests": entries}, OCI_INDEX, subject.replace(":", "-"))
    fake_registry.faults.on("referrers").error(status, "UNSUPPORTED")
    assert registry.referrers("app", subject) == entries
    fake_registry.faults.clear()
    fake_registry.faults.on("referrers").error(403, "DENIED")
    with pytest.raises(RegistryDenied):
        registry.referrers("app", subject)


@pytest.mark.parametrize("document", [{"layers": []}, {"manifests": [1]}, {"manifests": {}}])
def test_what_is_no_list_of_referrers(
    registry: Registry, fake_registry: FakeRegistry, document: dict[str, Any]
) -> None:
    fake_registry.faults.on("referrers").status(200, json.dumps(document).encode())
    with pytest.raises(InvalidAnswer, match="sends no index"):
        registry.referrers("app", digest_of(b""))
